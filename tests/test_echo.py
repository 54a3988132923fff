"""Texts read twice: the second copy has seen every word, and a word that is taken away is gone from both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from model_zoo import make_specimen, make_tokenizer  # noqa: E402

from infogeo.errors import ArgumentError, TextError  # noqa: E402
from infogeo_adapters import (  # noqa: E402
    capture_activations,
    effects_background,
    load_model,
    measure_influence,
    word_effects,
)
from infogeo_adapters.transformers.alignment import encode  # noqa: E402
from infogeo_adapters.transformers.echo import doubled, find_reading, prepare_reading  # noqa: E402
from infogeo_adapters.transformers.stack import find_stack, runner  # noqa: E402

TEXT = "She sells unbelievable shells"
LAYERS = [1, 2, 3]


def close(a: Any, b: Any, rtol: float = 2e-5) -> bool:
    return bool(np.abs(np.asarray(a) - np.asarray(b)).max() <= rtol * np.abs(np.asarray(b)).max())


def item(model: Any, text: str = TEXT, *, words: Any = None, overflow: Any = "error", reading: Any = "twice") -> Any:
    return prepare_reading(model, text, words, overflow, reading)


def test_a_text_and_its_words_twice() -> None:
    text, spans = doubled("a dog", [(0, 1), (2, 5)])
    assert text == "a dog a dog"
    assert [text[i:j] for i, j in spans] == ["a", "dog", "a", "dog"]


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "t5", "bart"])
def test_tokens_of_both_copies_belong_to_the_word_and_the_second_is_read(tiny: Any, family: str) -> None:
    model = tiny(family)
    found = item(model)
    acts = capture_activations(model, f"{TEXT} {TEXT}")
    assert found.tokens.ids.tolist() == acts.token_ids.tolist()
    assert found.text == TEXT
    assert [TEXT[i:j] for i, j in found.spans] == TEXT.split()
    for t, word in enumerate(acts.token_words):
        assert found.table[t] == (word % 4 if word >= 0 else -1)
        assert found.read[t] == (word >= 4)
    assert (found.table == 2).sum() > 2  # a word of several tokens, twice
    assert found.options["reading"] == "twice"


def test_a_first_word_may_be_written_otherwise_in_the_second_copy(tiny: Any) -> None:
    model = tiny("gpt2")
    found = item(model, "it was a")
    mine = found.table == 0
    first, second = (
        model.tokenizer.convert_ids_to_tokens(found.tokens.ids[mine & (found.read == copy)].tolist())
        for copy in (False, True)
    )
    assert (first, second) == (["i", "t"], ["\u0120it"])
    states = capture_activations(model, "it was a it was a", attention=False).hidden_states
    effects = word_effects(model, "it was a", reading="twice")
    assert close(effects.whole[:, 0], states[:, np.flatnonzero(mine & found.read)[0]])


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert"])
def test_states_are_those_of_the_second_copy(tiny: Any, family: str) -> None:
    model = tiny(family)
    acts = capture_activations(model, f"{TEXT} {TEXT}", attention=False)
    expected = np.stack([acts.word_vectors(layer)[4:] for layer in range(4)])
    found = word_effects(model, TEXT, reading="twice")
    assert found.words == tuple(TEXT.split())
    assert close(found.whole, expected)
    assert not close(found.whole, np.stack([acts.word_vectors(layer)[:4] for layer in range(4)]), 1e-3)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "mistral", "gpt-oss"])
def test_a_hidden_word_is_hidden_in_both_copies(name: str) -> None:
    model = load_model(make_specimen(name), tokenizer=make_tokenizer())
    text = "the cat sat on the mat"
    one, other = (word_effects(model, t, reading="twice") for t in (text, text.replace("sat", "dog")))
    rest = [0, 1, 3, 4, 5]
    assert close(one.without[:, 2][:, rest], other.without[:, 2][:, rest], 1e-6)
    assert not close(one.whole[1:, rest], other.whole[1:, rest], 1e-3)
    again = prepare_reading(model, text, None, "error", "twice")
    for copy in (0, 1):  # either copy alone would show
        ids = torch.tensor(again.tokens.ids)[None].clone()
        place = np.flatnonzero(again.table == 2)[copy]
        ids[0, place] = model.tokenizer.convert_tokens_to_ids("dog")
        stack = find_stack(model.model)
        kept: list[Any] = []
        last = list(runner(model.model, stack.side).get_submodule(stack.path).children())[-1]
        handle = last.register_forward_hook(lambda m, a, out, kept=kept: kept.append(
            (out[0] if isinstance(out, tuple) else out).detach().reshape(-1, 16).numpy()))
        try:
            model.model(ids)
        finally:
            handle.remove()
        read = np.flatnonzero(again.read & (again.table != 2))
        read = read[read > place]
        assert not close(kept[0][read], one.whole[-1][again.table[read]], 1e-4)


@pytest.mark.parametrize("removal", ["mask", "delete", "mean"])
def test_other_removals_take_both_copies_away(removal: str) -> None:
    model = load_model(make_specimen("llama"), tokenizer=make_tokenizer())
    text = "the cat sat on the mat"
    one, other = (
        word_effects(model, t, reading="twice", removal=removal) for t in (text, text.replace("sat", "dog"))
    )
    rest = [0, 1, 3, 4, 5]
    assert close(one.without[:, 2][:, rest], other.without[:, 2][:, rest], 1e-6)
    if removal == "delete":
        shorter = word_effects(model, "the cat on the mat", reading="twice", removal=removal).whole
        assert close(one.without[:, 2][:, rest], shorter)


def test_draws_are_made_in_both_copies(tiny: Any) -> None:
    effects = word_effects(tiny("gpt2"), "She sells shells", removal="resample", reading="twice")
    assert effects.without.shape[1] == 12
    assert (np.abs(effects.differences()[-1][effects.removed == 2][:, :2]).max(axis=-1) > 0).any()


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("distribution", ["states", "effects", "readout"])
def test_later_words_move_earlier_ones_in_a_causal_model(tiny: Any, family: str, distribution: Any) -> None:
    above = np.triu(np.ones((4, 4), dtype=bool), 1)
    given: dict[str, Any] = {"layers": LAYERS, "distribution": distribution}
    once = measure_influence(tiny(family), TEXT, **given)
    twice = measure_influence(tiny(family), TEXT, **given, reading="twice")
    assert once.causal
    assert not once.values[:, above].any()
    assert not twice.causal
    assert (twice.values[:, above] > 0).all()
    assert once.words == twice.words
    assert twice.source.options["reading"] == "twice"
    assert "reading" not in once.source.options
    assert twice.source.text_hash == once.source.text_hash


def test_once_is_what_it_is_without_a_word_about_it(tiny: Any) -> None:
    model = tiny("gpt2")
    assert item(model, reading="once").read is None
    for given in ({}, {"reading": "once"}):
        found = word_effects(model, TEXT, **given)
        acts = capture_activations(model, TEXT, attention=False)
        assert close(found.whole, np.stack([acts.word_vectors(layer) for layer in range(4)]))
        assert found.causal


def test_a_batch_is_what_a_loop_gives(tiny: Any) -> None:
    model = tiny("llama")
    texts = [TEXT, "It was raining.", "Stop!"]
    many = word_effects(model, texts, reading="twice", batch_tokens=60)
    for text, found in zip(texts, many, strict=True):
        alone = word_effects(model, text, reading="twice")
        assert found.words == alone.words
        assert close(found.whole, alone.whole)
        assert close(found.without, alone.without)


def test_effects_of_the_background_are_read_the_same_way(tiny: Any) -> None:
    model, texts = tiny("gpt2"), ["She sells sea shells", "It was raining"]
    once, twice = (effects_background(model, texts, reading=r) for r in ("once", "twice"))
    assert once.n_effects == 6 + 3
    assert twice.n_effects == 12 + 6
    assert twice.source.options["reading"] == "twice"
    effects = np.concatenate([word_effects(model, t, reading="twice").effects() for t in texts], axis=1)
    assert close(twice.covariance, [np.cov(e.T, bias=True) for e in effects[1:]], 1e-6)


def test_words_of_ones_own_are_kept(tiny: Any) -> None:
    model = tiny("bert")
    spans = [(0, 9), (10, 29)]
    found = word_effects(model, TEXT, words=spans, reading="twice")
    assert found.words == ("She sells", "unbelievable shells")
    acts = capture_activations(
        model, f"{TEXT} {TEXT}", words=[*spans, *((i + 30, j + 30) for i, j in spans)], attention=False
    )
    assert close(found.whole[3], acts.word_vectors(3)[2:])


def test_the_default_is_twice_for_causal_models(tiny: Any) -> None:
    wanted = {"gpt2": "twice", "llama": "twice", "bert": "once", "t5": "once", "bart": "once"}
    assert {family: find_reading(tiny(family), None) for family in wanted} == wanted
    assert find_reading(tiny("bert"), "twice") == "twice"
    for bad in ("thrice", 2, ""):
        with pytest.raises(ArgumentError, match="'once' or 'twice'"):
            find_reading(tiny("bert"), bad)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="'once' or 'twice'"):
        word_effects(tiny("gpt2"), TEXT, reading="both")  # type: ignore[call-overload]


# Contexts


def test_twice_the_text_must_fit_the_context(tiny: Any) -> None:
    model = tiny("gpt2")
    text = "shells " * 12
    assert len(item(model, text, reading="once").spans) == 12
    with pytest.raises(TextError, match=r"read twice in a row.*the text has \d+ tokens.*overflow='truncate'"):
        item(model, text)
    with pytest.raises(TextError, match="text 1: read twice in a row"):
        word_effects(model, ["It was", text], reading="twice")


def test_where_asked_both_copies_are_cut_to_what_fits(tiny: Any) -> None:
    model = tiny("gpt2")
    text = " ".join(f"shells{'s' * (k % 3)}" for k in range(12))
    cut = item(model, text, overflow="truncate")
    n = len(cut.spans)
    assert 2 <= n < 12
    assert cut.text == text[: cut.spans[-1][1]]
    assert len(cut.tokens.ids) <= 64
    more = text[: item(model, text, reading="once").spans[n][1]]
    assert len(encode(model.tokenizer, f"{more} {more}").ids) > 64
    assert cut.options["truncated_words"] == 12 - n
    whole = item(model, cut.text)
    assert whole.tokens.ids.tolist() == cut.tokens.ids.tolist()
    assert "truncated_words" not in item(model, "It was", overflow="truncate").options


def test_words_that_fall_off_twice_are_counted_together(tiny: Any) -> None:
    model = tiny("gpt2")
    once = item(model, "shells " * 60, overflow="truncate", reading="once")
    cut = item(model, "shells " * 60, overflow="truncate")
    assert once.options["truncated_words"] == 60 - len(once.spans)
    assert cut.options["truncated_words"] == 60 - len(cut.spans)
    assert len(cut.spans) < len(once.spans)


def test_a_first_word_that_fills_the_context_is_refused(tiny: Any) -> None:
    with pytest.raises(TextError, match="first word alone, given twice"):
        item(tiny("gpt2"), "q" * 40, overflow="truncate")


@pytest.mark.parametrize("bad", ["", "  ", b"bytes", None, "a\x00b"])
def test_what_is_no_text_is_refused(tiny: Any, bad: Any) -> None:
    with pytest.raises(TextError):
        item(tiny("gpt2"), bad)
