"""Words taken away: against passes made one by one with masks written by hand, over the zoo of architectures."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pytest
from model_zoo import ALSO, ZOO, make_net, make_specimen, make_tokenizer

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")

from infogeo.errors import ArgumentError, DomainError, ModelError, TextError  # noqa: E402
from infogeo_adapters import capture_activations, load_model  # noqa: E402
from infogeo_adapters.transformers import _removal_rows  # noqa: E402
from infogeo_adapters.transformers._removal_hiding import curtain, find_hideout  # noqa: E402
from infogeo_adapters.transformers.influence import stream_word_effects, word_effects  # noqa: E402
from infogeo_adapters.transformers.locks import lock_of  # noqa: E402
from infogeo_adapters.transformers.removal import (  # noqa: E402
    REMOVALS,
    DeleteWord,
    HideWord,
    MeanEmbedding,
    Removal,
    Remover,
    ResampleWord,
    find_removal,
)
from infogeo_adapters.transformers.stack import evaluating, find_stack, residual_stream, run_model, runner  # noqa: E402
from infogeo_adapters.transformers.stack import hooked as hooked_blocks  # noqa: E402

TEXT = "the cat sat on the mat and ran"
WORDS = TEXT.split()
LEAKY = {"mamba", "lfm2", "falcon-h1", "jamba", "recurrentgemma", "xlstm", "fnet", "longt5"}
"""Models in which words reach each other on other ways than attention, or that cannot mask."""
READABLE = sorted(name for name, entry in {**ZOO, **ALSO}.items() if not entry.refused)
HIDING = [name for name in READABLE if name not in LEAKY]
WINDOWS: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 50}, "gemma2": {"sliding_window": 50}, "gemma3": {"sliding_window": 50},
    "gpt-oss": {"sliding_window": 50}, "modernbert": {"local_attention": 60},
}
"""Settings under which a mask written by hand need not know of windows."""
RELATIVE = ("bloom", "deberta-v2", "xlnet")
"""Models that take no mask of four axes, and in which only the distances between tokens count."""


@cache
def specimen(name: str) -> Any:
    """A model of the zoo with its tokenizer, made once; tests leave it as it is."""
    return loaded(name)


def loaded(name: str, **settings: Any) -> Any:
    """A new model of the zoo with its tokenizer, some settings changed."""
    entry = {**ZOO, **ALSO}[name]
    net = make_net(entry.model, entry.config, {**entry.settings, **settings}) if settings else make_specimen(name)
    return load_model(net, tokenizer=make_tokenizer())


def stream_of(model: Any, ids: Any, mask: Any, **more: Any) -> Any:
    """Layers 0 to L of one text, (L + 1, T, d)."""
    stack = find_stack(model.model)
    part = runner(model.model, stack.side)
    blocks = {stack.path: part.get_submodule(stack.path)}
    with evaluating(model.model), hooked_blocks(blocks, all_inputs=False) as seen:
        run_model(part, ids, mask, **more)
    return np.stack([s[0].double().numpy() for s in residual_stream(stack, seen[stack.path])])


def closed_mask(tokens: int, hidden: list[int], *, causal: bool, additive: bool) -> Any:
    """Who may look at whom, (1, 1, T, T), written down."""
    rows = [
        [((k <= q or not causal) and k not in hidden) or (k == q and q in hidden and causal and q == 0)
         for k in range(tokens)] for q in range(tokens)
    ]
    seen = torch.tensor(rows)[None, None]
    return torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min) if additive else seen


def others(n: int, j: int) -> list[int]:
    return [i for i in range(n) if i != j]


def close(a: Any, b: Any, tolerance: float = 1e-5) -> bool:
    return bool(np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-30))


# Hiding


@pytest.mark.parametrize("name", [n for n in HIDING if n not in RELATIVE])
def test_hiding_is_what_a_mask_written_by_hand_says(name: str) -> None:
    model = loaded(name, **WINDOWS[name]) if name in WINDOWS else specimen(name)
    causal = model.kind == "decoder"
    found = word_effects(model, TEXT).without
    ids = torch.tensor([model.tokenizer(TEXT).input_ids])
    tokens = ids.shape[1]
    more = {"position_ids": torch.arange(tokens)[None]} if name.startswith("opt") else {}
    for j in (0, 3, len(WORDS) - 1):
        mask = closed_mask(tokens, [j + 1], causal=causal, additive=True)
        with contextlib.ExitStack() as scope:
            if name.startswith("opt"):  # its own positions come from a mask of two axes
                scope.enter_context(given_to_blocks(model, dict.fromkeys((1, 2, 3), mask)))
                mask = torch.ones_like(ids)
            states = stream_of(model, ids, mask, **more)[:, 1:]
        rest = others(len(WORDS), j)
        assert close(found[:, j][:, rest], states[:, rest]), j
    whole = stream_of(model, ids, torch.ones_like(ids))[-1, 1:]
    beside = ~np.eye(len(WORDS), dtype=bool)
    assert not close(found[-1][beside], np.tile(whole, (len(WORDS), 1, 1))[beside], 1e-3)


@contextlib.contextmanager
def given_to_blocks(model: Any, masks: dict[int, Any]) -> Iterator[None]:
    """Blocks, counted from 1, that get another mask than the model makes; each module runs once a pass."""
    stack = find_stack(model.model)
    blocks = list(runner(model.model, stack.side).get_submodule(stack.path).children())

    def other(mask: Any) -> Callable[..., Any]:
        def hook(module: Any, args: Any, kwargs: Any) -> Any:
            if "attention_mask" in kwargs:
                return args, {**kwargs, "attention_mask": mask}
            place = list(inspect.signature(module.forward).parameters).index("attention_mask")
            return (*args[:place], mask, *args[place + 1 :]), kwargs

        return hook

    handles = [blocks[b - 1].register_forward_pre_hook(other(m), with_kwargs=True) for b, m in masks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("name", RELATIVE)
def test_hiding_the_first_word_leaves_the_text_without_it(name: str) -> None:
    """Where only distances between tokens count and nothing comes before the word."""
    from tokenizers import processors

    model = loaded(name)

    model.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    found = word_effects(model, TEXT).without[:, 0, 1:]
    shorter = word_effects(model, TEXT.split(" ", 1)[1]).whole
    assert close(found, shorter)


@pytest.mark.parametrize("name", HIDING)
def test_a_hidden_word_may_be_any_word(name: str) -> None:
    model = specimen(name)
    one, other = word_effects(model, TEXT), word_effects(model, TEXT.replace("sat", "dog"))
    j, rest = 2, others(len(WORDS), 2)
    assert close(one.without[:, j][:, rest], other.without[:, j][:, rest], 1e-6)
    longer = TEXT + " home because it was cold"
    for text, padded in zip([TEXT, longer], word_effects(model, [TEXT, longer]), strict=True):
        alone = one if text == TEXT else word_effects(model, text)
        beside = ~np.eye(len(padded.words), dtype=bool)
        assert close(padded.without[:, beside], alone.without[:, beside], 1e-4)
    assert not close(one.whole[1:, 3:], other.whole[1:, 3:], 1e-3)
    whole = capture_activations(model, TEXT, attention=False)
    assert close(one.whole, np.stack([whole.word_vectors(r) for r in range(whole.n_layers + 1)]))


@pytest.mark.parametrize("name", HIDING)
def test_hiding_in_some_blocks_begins_there(name: str) -> None:
    model = specimen(name)
    if find_hideout(model.model, find_stack(model.model)).way == "mask":
        with pytest.raises(ModelError, match="in all blocks"):
            word_effects(model, TEXT, blocks=[2])
        return
    everywhere, second = word_effects(model, TEXT), word_effects(model, TEXT, blocks=[2])
    first_two = word_effects(model, TEXT, blocks=[2, 1])
    j, rest = 2, others(len(WORDS), 2)
    assert close(second.without[:2], np.broadcast_to(second.whole[:2, None], second.without[:2].shape))
    assert not close(second.without[2], np.broadcast_to(second.whole[2], second.without[2].shape), 1e-4)
    assert close(first_two.without[:3, j][:, rest], everywhere.without[:3, j][:, rest])
    if len(everywhere.layers) > 3:
        assert not close(first_two.without[3], everywhere.without[3], 1e-6)


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2", "t5", "opt", "gpt-j"])
def test_hiding_in_some_blocks_is_what_masks_by_block_say(name: str) -> None:
    model = specimen(name)
    ids = torch.tensor([model.tokenizer(TEXT).input_ids])
    found = word_effects(model, TEXT, blocks=[2]).without
    for j in (0, 4):
        mask = closed_mask(ids.shape[1], [j + 1], causal=model.kind == "decoder", additive=True)
        with given_to_blocks(model, {2: mask}):
            states = stream_of(model, ids, torch.ones_like(ids))[:, 1:]
        rest = others(len(WORDS), j)
        assert close(found[:, j][:, rest], states[:, rest])


@pytest.mark.parametrize("name", sorted(LEAKY))
def test_models_in_which_words_cannot_be_hidden_refuse_and_offer_others(name: str) -> None:
    model = specimen(name)
    with pytest.raises(ModelError, match="take words away by 'delete'"):
        word_effects(model, TEXT)
    assert np.isfinite(word_effects(model, TEXT, removal="mask").without).all()
    shorter = word_effects(model, TEXT.replace("sat ", ""), removal="mask").whole
    assert close(word_effects(model, TEXT, removal="delete").without[:, 2][:, others(8, 2)], shorter)


def test_a_word_of_several_tokens_is_hidden_whole(tiny: Any) -> None:
    model = tiny("bert")
    text = "The riverbank is unbelievable"
    acts = capture_activations(model, text, attention=False)
    mine = np.flatnonzero(acts.token_words == 1)
    assert len(mine) > 1
    mask = closed_mask(len(acts.tokens), mine.tolist(), causal=False, additive=True)
    states = stream_of(model, torch.tensor(np.array(acts.token_ids))[None], mask)
    expected = np.stack([acts.pooling_matrix() @ layer for layer in states])
    assert close(word_effects(model, text).without[:, 1][:, [0, 2, 3]], expected[:, [0, 2, 3]])


# The other ways


def test_mask_and_delete_are_texts_with_other_tokens(tiny: Any) -> None:
    model = tiny("bert")
    text = "The riverbank is unbelievable"
    acts = capture_activations(model, text, attention=False)
    ids, n = np.array(acts.token_ids), len(acts.words)
    for removal in ("mask", "delete"):
        found = word_effects(model, text, removal=removal)
        for j in range(n):
            mine = np.array(acts.token_words) == j
            changed = np.where(mine, model.tokenizer.mask_token_id, ids) if removal == "mask" else ids[~mine]
            weights = acts.pooling_matrix() if removal == "mask" else acts.pooling_matrix()[:, ~mine]
            given = torch.tensor(changed)[None]
            states = stream_of(model, given, torch.ones_like(given))
            rest = others(n, j)
            assert close(found.without[:, j][:, rest], np.stack([weights @ layer for layer in states])[:, rest])
        gone = np.isnan(found.without[:, np.arange(n), np.arange(n)])
        assert gone.all() if removal == "delete" else not gone.any()


@pytest.mark.parametrize("name", ["bert", "gpt2", "gemma", "xlnet", "albert", "bart", "mamba"])
@pytest.mark.parametrize("background", [None, "the cat ran\n\nthe dog ran home"])
def test_mean_is_the_mean_of_what_the_table_gives(name: str, background: str | None) -> None:
    model = specimen(name)
    stack = find_stack(model.model)
    table = runner(model.model, stack.side).get_input_embeddings()
    if background is None:
        ids = sorted(model.tokenizer.get_vocab().values())
    else:
        ids = model.tokenizer(background.replace("\n\n", " "), add_special_tokens=False).input_ids
    mean = np.mean([table(torch.tensor([[i]])).detach().double().numpy()[0, 0] for i in ids], axis=0)
    text = torch.tensor([model.tokenizer(TEXT).input_ids])
    vectors = table(text).detach().clone()
    vectors[0, 3] = torch.tensor(mean)

    def other(module: Any, args: Any, output: Any) -> Any:
        return vectors.transpose(0, 1) if stack.time_major else vectors

    handle = table.register_forward_hook(other)
    try:
        expected = stream_of(model, text, torch.ones_like(text))[:, 1:]
    finally:
        handle.remove()
    found = word_effects(model, TEXT, removal=MeanEmbedding(background=background))
    assert close(found.without[:, 2], expected)
    assert not close(found.without[-1, 2], found.whole[-1], 1e-3)


def test_draws_of_a_masked_model_follow_its_predictions(tiny: Any) -> None:
    model = tiny("bert")
    text = "The old man"
    j, samples = 1, 2000
    remover = ResampleWord(samples=samples).ready(model, find_stack(model.model), 3)
    item = item_of(model, text)
    rows = np.array([row.ids for row in remover.rows(item, j)])
    places = np.flatnonzero(item.table == j)
    assert (np.delete(rows, places, axis=1) == np.delete(item.tokens.ids, places)).all()
    ids = torch.tensor(item.tokens.ids)[None].clone()
    ids[0, places] = model.tokenizer.mask_token_id
    with torch.no_grad():
        logits = model.model(ids).logits[0, places[0]].double().numpy()
    allowed = [i for i in model.tokenizer.get_vocab().values() if i not in model.tokenizer.all_special_ids]
    p = np.exp(logits - logits.max())[allowed]
    counts = np.bincount(rows[:, places[0]], minlength=len(logits))
    assert counts.sum() == counts[allowed].sum() == samples
    expected = samples * p / p.sum()
    assert ((counts[allowed] - expected) ** 2 / expected).sum() < 1.5 * len(allowed)


def test_draws_of_a_causal_model_follow_the_left_context(bundled: Any) -> None:
    text = "One day the extraordinarily sun shone."
    item = item_of(bundled, text)
    j = 3
    places = np.flatnonzero(item.table == j)
    assert len(places) > 1
    remover = ResampleWord(samples=400).ready(bundled, find_stack(bundled.model), 0)
    rows = np.array([row.ids for row in remover.rows(item, j)])
    with torch.no_grad():
        ids = torch.tensor(item.tokens.ids[: places[0]])[None]
        first = bundled.model(ids).logits[0, -1].softmax(-1).numpy()
        drawn = int(np.bincount(rows[:, places[0]]).argmax())
        share = float((rows[:, places[0]] == drawn).mean())
        assert abs(share - first[drawn]) < 5 * np.sqrt(first[drawn] / 400)
        ids = torch.cat([ids, torch.tensor([[drawn]])], dim=1)
        second = bundled.model(ids).logits[0, -1].softmax(-1).numpy()
    mine = rows[rows[:, places[0]] == drawn, places[1]]
    assert abs(np.log(second[mine]).mean() - (second * np.log(second)).sum()) < 8 / np.sqrt(len(mine))
    assert (np.delete(rows, places, axis=1) == np.delete(item.tokens.ids, places)).all()


def test_draws_depend_on_seed_and_text_alone(tiny: Any) -> None:
    model = tiny("bert")
    texts = ["The old man sells shells", "The quick dog", "It was raining"]
    many = word_effects(model, texts, removal="resample", rng=5)
    for text, found in zip(texts, many, strict=True):
        alone = word_effects(model, text, removal=ResampleWord(), rng=5)
        assert alone.removed.tolist() == np.repeat(np.arange(len(found.words)), 4).tolist()
        assert close(found.without, alone.without)
    assert not close(many[0].without, word_effects(model, texts[0], removal="resample", rng=6).without, 1e-3)
    random = [word_effects(model, texts[0], removal="resample", rng=np.random.default_rng(1)) for _ in range(2)]
    assert close(random[0].without, random[1].without)
    wide = word_effects(model, texts[0], removal="resample", rng=np.int64(5))
    assert wide.source.seed == 5
    assert close(wide.without, many[0].without)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_both_copies_of_a_text_get_the_same_draws(tiny: Any, family: str) -> None:
    from infogeo_adapters.transformers.echo import prepare_reading

    model, text = tiny(family), "she sells unbelievable shells"
    item = prepare_reading(model, text, None, "error", "twice")
    remover = ResampleWord(samples=50).ready(model, find_stack(model.model), 0)
    several = False
    for j in range(1, 4):
        rows = np.array([row.ids for row in remover.rows(item, j)])
        first, second = np.split(np.flatnonzero(item.table == j), 2)
        assert item.read[second].all()
        assert not item.read[first].any()
        assert np.array_equal(rows[:, first], rows[:, second])
        assert len(np.unique(rows[:, first], axis=0)) > 1
        rest = np.delete(rows, np.flatnonzero(item.table == j), axis=1)
        assert (rest == np.delete(item.tokens.ids, np.flatnonzero(item.table == j))).all()
        several |= len(first) > 1
    assert several


def test_a_word_written_otherwise_in_the_second_copy_is_drawn_there_too(tiny: Any) -> None:
    from infogeo_adapters.transformers.echo import prepare_reading

    model = tiny("gpt2")
    item = prepare_reading(model, "it was a", None, "error", "twice")
    places = np.flatnonzero(item.table == 0)
    assert len(places) == 3
    rows = np.array([r.ids for r in ResampleWord(samples=50).ready(model, find_stack(model.model), 0).rows(item, 0)])
    assert (rows[:, places] != item.tokens.ids[places]).any(axis=0).all()


def test_predictions_that_are_not_numbers_are_not_drawn_from(make_tiny: Any) -> None:
    net, tokenizer = make_tiny("bert")
    model = load_model(net, tokenizer=tokenizer)
    with torch.no_grad():
        net.cls.predictions.bias.fill_(float("nan"))
    with pytest.raises(DomainError, match="nothing can be drawn"):
        word_effects(model, "The dog", removal="resample")


def test_a_first_word_is_drawn_after_the_beginning_of_a_text(make_tiny: Any) -> None:
    net, tokenizer = make_tiny("gpt2")
    model = load_model(net, tokenizer=tokenizer)
    assert word_effects(model, "The dog", removal=ResampleWord(samples=2)).without.shape[1] == 4
    tokenizer.bos_token = None
    with pytest.raises(ModelError, match="beginning of a text"):
        word_effects(model, "The dog", removal="resample")


def item_of(model: Any, text: str) -> Any:
    from infogeo_adapters.transformers.forward import prepare

    return prepare(model, text, None, "error")


# Batches


@pytest.mark.parametrize("removal", ["hide", "mask", "delete", "mean"])
@pytest.mark.parametrize("batch_tokens", [1, 30, 4096])
def test_a_batch_is_what_a_loop_gives(tiny: Any, removal: str, batch_tokens: int) -> None:
    model = tiny("bert")
    texts = ["The old man sells sea shells", "It was raining.", "Stop!", "She sells unbelievable shells by the well"]
    many = word_effects(model, texts, removal=removal, batch_tokens=batch_tokens, layers=[1, -1])
    for text, found in zip(texts, many, strict=True):
        alone = word_effects(model, text, removal=removal)
        assert found.layers == (1, 3)
        assert found.words == alone.words
        assert np.array_equal(np.isnan(found.without), np.isnan(alone.without[[1, 3]]))
        assert close(np.nan_to_num(found.without), np.nan_to_num(alone.without[[1, 3]]))
        assert close(found.whole, alone.whole[[1, 3]])


def test_batches_are_bounded_and_passes_are_few(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, int]] = []
    own = run_model

    def noting(part: Any, ids: Any, mask: Any, **more: Any) -> Any:
        shapes.append(tuple(ids.shape))
        return own(part, ids, mask, **more)

    monkeypatch.setattr(_removal_rows, "run_model", noting)
    texts = ["The old man sells sea shells", "It was raining.", "The dog ran home"]
    told: list[tuple[int, int]] = []
    word_effects(tiny("bert"), texts, batch_tokens=80, progress=lambda done, total: told.append((done, total)))
    assert max(rows * width for rows, width in shapes) <= 80
    assert len(shapes) < 12
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_padding_that_cannot_be_masked_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded("fnet")
    texts = [TEXT, "the cat ran", "the dog sat on it"]
    for removal in ("delete", "mean"):
        for text, found in zip(texts, word_effects(model, texts, removal=removal), strict=True):
            alone = word_effects(model, text, removal=removal, batch_tokens=1)
            assert close(np.nan_to_num(found.without), np.nan_to_num(alone.without))


def test_a_text_of_one_word_can_lose_it(tiny: Any) -> None:
    for family in ("gpt2", "bert"):  # without special tokens nothing is left to read, with them something is
        found = word_effects(tiny(family), "dog", removal="delete")
        assert np.isnan(found.without).all()
        assert found.without.shape[1:3] == (1, 1)
    assert [e.words for e in word_effects(tiny("gpt2"), ["dog", "The dog"], removal="delete")] == [
        ("dog",), ("The", "dog"),
    ]


def test_a_stream_gives_results_as_they_come_and_holds_nothing(tiny: Any, restored: Any) -> None:
    model = tiny("llama")
    restored(model.model)
    stream = stream_word_effects(model, ["The old man sells sea shells", "It was", "Stop!"], batch_tokens=20)
    first, effects = next(stream)
    assert (first, effects.words) == (2, ("Stop", "!"))
    assert model.model.config._attn_implementation == "sdpa"
    assert not any(m._forward_pre_hooks for m in model.model.modules())
    assert capture_activations(model, "It was").attention is not None
    assert sorted([first, *(k for k, _ in stream)]) == [0, 1, 2]


@pytest.mark.parametrize("removal", ["hide", "mean", "mask"])
def test_a_model_is_as_before_also_after_an_error(tiny: Any, restored: Any, removal: str) -> None:
    model = tiny("bert")
    restored(model.model)
    model.model.train()
    try:
        word_effects(model, "The dog", removal=removal)
        assert model.model.training
        handle = model.model.bert.encoder.layer[1].register_forward_pre_hook(fails)
        try:
            with pytest.raises(RuntimeError, match="on purpose"):
                word_effects(model, "The dog", removal=removal)
        finally:
            handle.remove()
        assert model.model.training
        assert model.model.config._attn_implementation == "sdpa"
    finally:
        model.model.eval()
    assert close(word_effects(model, "The dog", removal=removal).whole, word_effects(model, "The dog").whole)


@pytest.mark.parametrize("name", ["bert", "bloom"])
def test_other_threads_see_every_word(name: str) -> None:
    model = specimen(name)
    net, stack = model.model, find_stack(model.model)
    ids = torch.tensor([model.tokenizer(TEXT).input_ids])
    hidden = torch.zeros_like(ids, dtype=torch.bool)
    hidden[0, 3] = True
    with torch.no_grad(), ThreadPoolExecutor(1) as pool:
        own = net(ids).logits
        with lock_of(net), evaluating(net), curtain(net, stack) as drawn:
            drawn.draw(hidden)
            inside, outside = net(ids).logits, pool.submit(torch.no_grad()(net), ids).result().logits
            drawn.draw(None)
            nothing = net(ids).logits
    assert close(outside.numpy(), own.numpy())
    assert close(nothing.numpy(), own.numpy())
    assert not close(inside.numpy(), own.numpy(), 1e-3)


def fails(module: Any, args: Any) -> None:
    raise RuntimeError("on purpose")


def test_float64_and_bfloat16(make_tiny: Any) -> None:
    net, tokenizer = make_tiny("llama")
    single = word_effects(load_model(net, tokenizer=tokenizer), "The old man ran")
    model = load_model(net.double(), tokenizer=tokenizer)
    double, acts = word_effects(model, "The old man ran"), capture_activations(model, "The old man ran")
    assert close(double.whole[3], acts.word_vectors(3), 1e-13)
    assert (single.without.dtype, double.without.dtype) == (np.float32, np.float64)
    assert close(single.without, double.without, 1e-4)
    half = word_effects(load_model(net.bfloat16(), tokenizer=tokenizer), "The old man ran")
    assert half.without.dtype == np.float32
    assert close(half.without, double.without, 0.1)


# Guards


def test_ways_are_found_by_name() -> None:
    assert list(REMOVALS) == ["hide", "mask", "delete", "mean", "resample"]
    assert find_removal("hide", [3, 1]) == HideWord(blocks=(1, 3))
    assert find_removal(DeleteWord()) == DeleteWord()
    assert find_removal(HideWord(blocks=(2,)), [2]) == HideWord(blocks=(2,))
    with pytest.raises(ArgumentError, match=r"found \(1,\), but the removal says \(2,\)"):
        find_removal(HideWord(blocks=(2,)), [1])


def test_layers_may_be_given_in_any_sequence(tiny: Any) -> None:
    for layers in ([1, 2], (1, -2), range(1, 3), np.array([1, 2]), iter([1, 2])):
        assert word_effects(tiny("bert"), "The dog", layers=layers).layers == (1, 2)
    assert word_effects(tiny("bert"), "The dog", layers=np.int64(2)).layers == (2,)


def test_a_text_without_tokens_has_no_mean(tiny: Any) -> None:
    with pytest.raises(TextError, match="finds no token in"):
        word_effects(tiny("bert"), "The dog", removal=MeanEmbedding(background="\u200b"))


def test_a_model_that_hides_in_all_blocks_or_none_says_so_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    name = next((n for n in HIDING if find_hideout(specimen(n).model, find_stack(specimen(n).model)).way == "mask"), "")
    assert name
    model = specimen(name)
    with pytest.raises(ModelError, match="in all blocks"):
        HideWord(blocks=(1,)).ready(model, find_stack(model.model), 0)


@pytest.mark.parametrize(("given", "message"), [
    ({"removal": "erase"}, "'erase' does not exist"),
    ({"removal": 3}, "wanted 'hide'"),
    ({"removal": "mask", "blocks": [1]}, "only for removal='hide'"),
    ({"blocks": []}, "found none"),
    ({"blocks": [0]}, "counted from 1"),
    ({"blocks": [True]}, "counted from 1"),
    ({"blocks": 2}, "counted from 1"),
    ({"blocks": [9]}, "from 1 to 3"),
    ({"layers": []}, "found none"),
    ({"layers": [7]}, "layer 7 does not exist"),
    ({"layers": "all"}, "whole number"),
    ({"batch_tokens": 0}, "positive"),
    ({"overflow": "cut"}, "does not exist"),
    ({"rng": "x"}, "rng"),
    ({"progress": 3}, "progress"),
])
def test_wrong_arguments_are_refused(tiny: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        word_effects(tiny("bert"), "The dog", **given)


def test_models_that_do_not_offer_a_way_say_so(tiny: Any, minilm: Any) -> None:
    with pytest.raises(ModelError, match=r"no mask token.*'hide', 'delete', 'mean' or 'resample'$"):
        word_effects(tiny("gpt2"), "The dog", removal="mask")
    with pytest.raises(ModelError, match=r"no mask token.*'hide', 'delete' or 'mean'$"):
        word_effects(tiny("t5"), "The dog", removal="mask")
    with pytest.raises(ModelError, match="no head"):
        word_effects(minilm, "The dog", removal="resample")
    with pytest.raises(ModelError, match="decoder only"):
        word_effects(tiny("t5"), "The dog", removal="resample")
    with pytest.raises(ArgumentError, match="samples"):
        ResampleWord(samples=0)
    with pytest.raises(ArgumentError, match="load_model"):
        word_effects("bert", "The dog")  # type: ignore[call-overload]


def test_bad_texts_are_named(tiny: Any) -> None:
    with pytest.raises(TextError, match="empty"):
        word_effects(tiny("bert"), "")
    with pytest.raises(TextError, match="text 1"):
        word_effects(tiny("bert"), ["The dog", " "])
    with pytest.raises(TextError, match="no texts"):
        word_effects(tiny("bert"), [])
    with pytest.raises(TextError, match="context"):
        word_effects(tiny("bert"), "dog " * 80)


def test_a_way_of_ones_own(tiny: Any) -> None:
    class Reversed(Removal):
        name = "reversed"

        def ready(self, model: Any, stack: Any, seed: int) -> Remover:
            return Backwards()

    class Backwards(Remover):
        def rows(self, item: Any, word: int) -> list[Any]:
            return [_removal_rows.Row(word=word, ids=item.tokens.ids[::-1].copy(), types=item.tokens.types)]

    found = word_effects(tiny("bert"), "The dog", removal=Reversed())
    assert found.removal == "reversed"
    assert found.source.options["removal"] == "reversed"
    from infogeo_adapters.transformers.influence import effects_background

    assert Reversed() != Reversed()
    one, other = Reversed(), Reversed()
    made = effects_background(tiny("bert"), removal=one, sentences=2)
    assert effects_background(tiny("bert"), removal=one, sentences=2) is made
    assert effects_background(tiny("bert"), removal=other, sentences=2) is not made
    with pytest.raises(NotImplementedError):
        Removal().ready(tiny("bert"), find_stack(tiny("bert").model), 0)
    with pytest.raises(NotImplementedError):
        Remover().rows(None, 0)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Given(Removal):
    """Rows that a function makes."""

    name: ClassVar[str] = "given"
    make: Any = None
    more: Any = None

    def ready(self, model: Any, stack: Any, seed: int) -> Remover:
        made = Remover()
        object.__setattr__(made, "rows", self.make)
        return made


@pytest.mark.parametrize("change", [
    None, {"word": 5}, {"ids": np.array([1, 2])}, {"ids": np.array([10**6, 1, 1, 1])}, {"ids": np.array([-1, 1, 1, 1])},
    {"ids": np.ones(4)}, {"types": np.zeros(3, dtype=int)}, {"marked": np.zeros(3, dtype=bool)},
    {"kept": np.array([1, 0, 2, 3])}, {"kept": np.array([0, 1, 2, 4])}, {"kept": np.array([0, 1])},
])
def test_rows_that_cannot_be_run_are_refused(tiny: Any, change: Any) -> None:
    def rows(item: Any, word: int) -> list[Any]:
        plain = {"word": word, "ids": item.tokens.ids, "types": item.tokens.types}
        return [] if change is None else [_removal_rows.Row(**{**plain, **change})]

    with pytest.raises(ArgumentError, match="gives for word 0 no row of that word"):
        word_effects(tiny("bert"), "The dog", removal=Given(make=rows))


def test_settings_of_any_kind_are_noted_and_those_that_cannot_be_told_apart_refused(tiny: Any) -> None:
    def rows(item: Any, word: int) -> list[Any]:
        return [_removal_rows.Row(word=word, ids=item.tokens.ids, types=item.tokens.types)]

    found = word_effects(tiny("bert"), "The dog", removal=Given(make=rows, more=(1, 2)))
    assert found.source.options["removal_more"] == "1,2"
    assert "rows" in str(found.source.options["removal_make"])
    assert close(found.without, found.whole[:, None])
    with pytest.raises(ArgumentError, match="cannot be hashed"):
        word_effects(tiny("bert"), "The dog", removal=Given(make=rows, more=[1]))
