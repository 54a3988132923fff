"""The lens on every architecture: at each layer what the model itself would say if it stopped there, in float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from model_zoo import TEXT, ZOO, make_specimen, make_tokenizer  # noqa: E402

from infogeo_adapters import capture_activations, capture_encoder_decoder, load_model, logit_lens  # noqa: E402
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
