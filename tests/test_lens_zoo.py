"""The lens on every architecture: at each layer what the model itself would say if it stopped there, in float64."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from model_zoo import TEXT, ZOO, make_specimen, make_tokenizer  # noqa: E402

from infogeo.entropy_profile import STATES  # noqa: E402
from infogeo.errors import ArgumentError, ModelError  # noqa: E402
from infogeo_adapters import (  # noqa: E402
    capture_activations,
    capture_encoder_decoder,
    capture_stages,
    load_model,
    logit_lens,
    read_out,
)
from infogeo_adapters.transformers.lens_plan import LENS_STAGES, readable_stages  # noqa: E402
from infogeo_adapters.transformers.stack import Stack, find_stack, runner  # noqa: E402

READABLE = [name for name, entry in ZOO.items() if not entry.refused]
SOURCE, TARGET = "the cat sat on the mat and the dog ran home", "the dog sat because it was cold"


def own_logits_from(net: Any, stack: Stack, states: np.ndarray, ids: Any, source: Any) -> np.ndarray:
    """Logits that a model makes itself when its last block returns the given states (T, d)."""
    blocks = runner(net, "decoder").get_submodule(stack.path)
    fired = 0

    def put(block: Any, args: Any, output: Any) -> Any:
        nonlocal fired
        fired += 1
        if fired != stack.depth:
            return None
        new = torch.tensor(np.asarray(states, dtype=np.float64))[None]
        new = new.transpose(0, 1) if stack.time_major else new
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handles = [block.register_forward_hook(put) for block in dict.fromkeys(blocks.children())]
    try:
        more = {} if source is None else {"decoder_input_ids": ids}
        with torch.no_grad():
            logits = net(input_ids=ids if source is None else source, **more).logits
    finally:
        for handle in handles:
            handle.remove()
    return np.asarray(logits[0])


def with_wide_head(net: Any, path: list[str]) -> Any:
    """The model with what stands after its last block in double precision; some blocks compute in single only."""
    wide = copy.deepcopy(net)
    modules = dict(wide.named_modules())
    for name in path:
        if name in modules:  # the others are numbers from the config
            parent, _, last = name.rpartition(".")
            setattr(wide.get_submodule(parent), last, copy.deepcopy(modules[name]).double())
    return wide


@pytest.mark.parametrize("name", READABLE)
def test_on_every_architecture_a_row_is_what_the_model_would_say_itself(name: str) -> None:
    model = load_model(make_specimen(name), tokenizer=make_tokenizer())
    source = None
    if model.kind == "encoder-decoder":
        acts = capture_encoder_decoder(model, SOURCE, TARGET, attention=False)
        profile = logit_lens(model, acts, renyi=2)
        source = torch.tensor(np.array(acts.encoder.token_ids))[None]
        decoder = acts.decoder
    else:
        decoder = capture_activations(model, TEXT, attention=False)
        profile = logit_lens(model, decoder, renyi=2)
    wide = with_wide_head(model.model, profile.source.options["readout"].split(", "))
    ids, stack = torch.tensor(np.array(decoder.token_ids))[None], find_stack(model.model, "decoder")
    assert len(profile.row_stages) == decoder.n_layers + 1
    for layer in range(decoder.n_layers + 1):
        log_p = log_softmax(own_logits_from(wide, stack, decoder.hidden_states[layer], ids, source), axis=-1)
        p = np.exp(log_p)
        np.testing.assert_allclose(profile.entropy[layer], -(p * log_p).sum(axis=-1), atol=1e-5)
        np.testing.assert_allclose(profile.renyi[2.0][layer], -np.log((p**2).sum(axis=-1)), atol=1e-5)
        there = profile.target_ids >= 0
        np.testing.assert_allclose(
            profile.cross_entropy[layer, there], -log_p[there, profile.target_ids[there]], atol=2e-5, rtol=2e-6
        )
        np.testing.assert_array_equal(profile.top_ids[layer, :, 0], p.argmax(axis=-1))
    assert there.sum() == len(decoder.tokens) - (1 if source is None else 0)
    assert np.ptp(profile.entropy) > 5e-4  # rows that differ by much more than they may be wrong


STAGES = ("attention_output", "resid_mid", "feed_forward_output", "resid_post")


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "bert", "albert", "t5", "bart"])
def test_stages_inside_a_block_are_read_out_as_states_are(name: str) -> None:
    model = load_model(make_specimen(name), tokenizer=make_tokenizer())
    two = model.kind == "encoder-decoder"
    more: dict[str, Any] = {"target": TARGET} if two else {}
    stages = (*STAGES, "resid_cross", "cross_attention_output") if two else STAGES
    acts = capture_stages(model, SOURCE, **more)
    profile = logit_lens(model, SOURCE, stages=stages, renyi=0.5, **more)
    assert set(profile.row_stages) == {"embedding", *stages}
    np.testing.assert_allclose(logit_lens(model, acts, stages=stages).entropy, profile.entropy, atol=1e-5)
    # the last label of a target is known too, whatever is read
    np.testing.assert_array_equal(profile.target_ids, logit_lens(model, SOURCE, **more).target_ids)
    assert (profile.target_ids[-1] >= 0) == (two or profile.predicts == "itself")
    whole = logit_lens(model, acts.activations)
    np.testing.assert_allclose(profile.at_stage("resid_post").entropy, whole.entropy, atol=1e-5)
    wide = with_wide_head(model.model, profile.source.options["readout"].split(", "))
    ids, stack = torch.tensor(np.array(acts.activations.token_ids))[None], find_stack(model.model, "decoder")
    source = None
    if two:
        source = torch.tensor(model.tokenizer(SOURCE).input_ids)[None]
    laws = {}
    for row, (layer, stage) in enumerate(zip(profile.row_layers.tolist(), profile.row_stages, strict=True)):
        states = acts.activations.hidden_states[0] if stage == "embedding" else acts.at(stage, layer)
        log_p = log_softmax(own_logits_from(wide, stack, states, ids, source), axis=-1)
        laws[row] = np.exp(log_p)
        np.testing.assert_allclose(profile.entropy[row], -(laws[row] * log_p).sum(axis=-1), atol=1e-5)
        renyi = 2 * np.log(np.sqrt(laws[row]).sum(axis=-1))
        np.testing.assert_allclose(profile.renyi[0.5][row], renyi, atol=1e-5)
    states_rows = [row for row, stage in enumerate(profile.row_stages) if stage in STATES]
    steps = [2 * np.arccos(np.minimum(np.sqrt(laws[a] * laws[b]).sum(axis=-1), 1))
             for a, b in itertools.pairwise(states_rows)]
    np.testing.assert_allclose(profile.step_length[states_rows[1:]], steps, atol=2e-5)
    branches = [row for row in range(len(profile.row_stages)) if row not in states_rows]
    assert np.isnan(profile.step_length[branches]).all()
    assert np.isfinite(profile.kl_to_final[branches]).all()
    np.testing.assert_allclose(profile.path_length, np.sum(steps, axis=0), atol=1e-4)


def test_a_stage_alone_is_compared_with_the_final_prediction() -> None:
    model = load_model(make_specimen("llama"), tokenizer=make_tokenizer())
    alone = logit_lens(model, TEXT, stages="resid_mid")
    among = logit_lens(model, TEXT, stages=["resid_mid", "resid_post"])
    assert alone.row_layers.tolist() == [1, 2, 3]
    np.testing.assert_allclose(alone.kl_to_final, among.at_stage("resid_mid").kl_to_final, atol=1e-5)
    branch = logit_lens(model, TEXT, stages="attention_output")
    assert branch.row_stages == ("attention_output",) * 3
    assert np.isnan(branch.path_length).all()
    assert np.isnan(branch.geodesic_length).all()
    assert (alone.geodesic_length <= alone.path_length + 1e-6).all()  # from its first state to its last
    steps = among.states().step_length[1:]
    np.testing.assert_allclose(among.path_length, steps.sum(axis=0))
    part = among.at_stage("resid_post")
    assert np.isnan(part.path_length).all()  # its steps began at states that are left out
    np.testing.assert_array_equal(part.geodesic_length, among.geodesic_length)
    odd = logit_lens(model, TEXT, stages=(s for s in ("resid_post", "resid_mid", "resid_post")))
    assert odd.row_labels == among.row_labels


def test_blocks_without_a_stage() -> None:
    model = load_model(make_specimen("gpt-j"), tokenizer=make_tokenizer())
    with pytest.raises(ModelError, match=r"side by side|parallel"):
        logit_lens(model, TEXT, stages="resid_mid")
    assert logit_lens(model, TEXT, stages="feed_forward_output").row_layers.tolist() == [1, 2, 3]


def test_an_encoder_predicts_nothing_by_itself() -> None:
    model = load_model(make_specimen("t5"), tokenizer=make_tokenizer())
    encoder = capture_activations(model, SOURCE, attention=False)
    for read in (lambda: logit_lens(model, encoder), lambda: read_out(model, encoder, 1)):
        with pytest.raises(ModelError, match="of an encoder, which predicts nothing by itself"):
            read()
    with pytest.raises(ArgumentError, match=r"target: .* is an encoder-decoder model"):
        logit_lens(model, SOURCE)
    with pytest.raises(ArgumentError, match="target: wanted one text for each of the 2"):
        logit_lens(model, [SOURCE, TARGET], target=[TARGET])
    causal = load_model(make_specimen("llama"), tokenizer=make_tokenizer())
    with pytest.raises(ArgumentError, match="has one stack only"):
        logit_lens(causal, SOURCE, target=TARGET)
    pairs = logit_lens(model, [SOURCE, TARGET], target=[TARGET, SOURCE])
    np.testing.assert_allclose(pairs[1].entropy, logit_lens(model, TARGET, target=SOURCE).entropy, atol=1e-5)


CROSS = {"resid_cross", "cross_attention_output"}


@pytest.mark.parametrize(("name", "lacking"), [
    ("llama", CROSS), ("gpt-j", {"resid_mid", *CROSS}), ("bart", set()), ("mamba", {*STAGES[:3], *CROSS}),
])
def test_all_stages_are_those_that_the_model_has(name: str, lacking: set[str]) -> None:
    model = load_model(make_specimen(name), tokenizer=make_tokenizer())
    more: dict[str, Any] = {"target": TARGET} if name == "bart" else {}
    there, reasons = readable_stages(model, decoder=bool(more))
    assert set(reasons) == lacking
    assert all(reasons.values())
    profile = logit_lens(model, SOURCE, stages="all", **more)
    assert set(profile.row_stages) == set(there) == set(LENS_STAGES) - lacking
    captured = capture_stages(model, SOURCE, **more)
    np.testing.assert_allclose(logit_lens(model, captured, stages="all").entropy, profile.entropy, atol=1e-5)
    assert set(logit_lens(model, captured.activations, stages="all").row_stages) == {"embedding", "resid_post"}
