"""The probe batch: what it takes, what is predicted at each place, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

import torch
from model_zoo import TEXT, make_specimen, make_tokenizer

from infogeo.errors import ArgumentError, ModelError, ShapeError, TextError
from infogeo_adapters.training.probe import ProbeBatch, bare, probe_batch


@pytest.fixture(scope="module")
def gpt() -> Any:
    return make_specimen("gpt2")


@pytest.fixture(scope="module")
def bert() -> Any:
    return make_specimen("bert")


IDS = np.arange(5, 5 + 3 * 8).reshape(3, 8)


def test_an_array_for_a_causal_model_has_the_next_token_as_target(gpt: Any) -> None:
    probe = probe_batch(gpt, IDS)
    assert probe.objective == "next token"
    assert (probe.ids == IDS).all()
    assert probe.mask.all()
    assert (probe.targets[:, :-1] == IDS[:, 1:]).all()
    assert (probe.targets[:, -1] == -100).all()
    assert probe.n_targets == 21
    assert probe.shape == (3, 8)


def test_labels_of_a_causal_model_are_moved_and_those_of_a_masked_one_are_not(gpt: Any, bert: Any) -> None:
    labels = np.where(IDS % 3 == 0, IDS, -100)
    batch = {"input_ids": torch.from_numpy(IDS), "labels": torch.from_numpy(labels)}
    assert (probe_batch(gpt, batch).targets[:, :-1] == labels[:, 1:]).all()
    assert (probe_batch(bert, batch).targets == labels).all()


def test_padding_is_no_target(gpt: Any) -> None:
    mask = np.ones_like(IDS)
    mask[1, 5:] = 0
    probe = probe_batch(gpt, {"input_ids": IDS, "attention_mask": mask})
    assert (probe.targets[1] == [*IDS[1, 1:5], -100, -100, -100, -100]).all()
    assert (probe.mask == mask).all()


def test_texts_are_cut_into_windows_spread_evenly(gpt: Any) -> None:
    tokenizer = make_tokenizer()
    text = " ".join([TEXT] * 8)
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    probe = probe_batch(gpt, text, tokenizer=tokenizer, texts=3, tokens=10)
    assert probe.shape == (3, 10)
    assert (probe.ids[:, 0] == tokenizer.bos_token_id).all()
    starts = [next(i for i in range(len(whole)) if whole[i : i + 9] == row[1:].tolist()) for row in probe.ids]
    assert probe.ids[0, 1:].tolist() == whole[:9]
    assert len(set(starts)) == 3


def test_short_texts_are_padded_and_their_padding_masked(gpt: Any) -> None:
    tokenizer, words = make_tokenizer(), TEXT.split()[:11]
    probe = probe_batch(gpt, [" ".join(words), " ".join(words[:10])], tokenizer=tokenizer, tokens=12)
    assert probe.shape == (2, 12)
    assert probe.mask.sum(axis=1).tolist() == [12, 11]
    assert probe.targets[1, 9] == probe.ids[1, 10]
    assert (probe.targets[1, 10:] == -100).all()


def test_without_data_the_packaged_text_is_taken(bundled: Any) -> None:
    probe = probe_batch(bundled.model, tokenizer=bundled.tokenizer, texts=4, tokens=12)
    assert probe_batch(bundled, texts=4, tokens=12).hash == probe.hash  # with its own tokenizer
    assert probe.shape == (4, 12)
    assert probe.mask.all()
    assert len(np.unique(probe.ids)) > 20


def test_tokens_are_masked_and_predicted_there_alone(bert: Any) -> None:
    tokenizer = make_tokenizer()
    probe = probe_batch(bert, [TEXT] * 4, tokenizer=tokenizer, tokens=18, masked_share=0.25)
    hidden = probe.targets != -100
    assert (probe.ids[hidden] == tokenizer.mask_token_id).all()
    assert (probe.ids[~hidden] != tokenizer.mask_token_id).all()
    clean = probe_batch(bert, [TEXT] * 4, tokenizer=tokenizer, tokens=18, objective="none")
    assert (np.where(hidden, probe.targets, probe.ids) == clean.ids).all()
    assert hidden.sum() == round(0.25 * 4 * 17)
    assert not hidden[:, 0].any()
    again = probe_batch(bert, [TEXT] * 4, tokenizer=tokenizer, tokens=18, masked_share=0.25)
    other = probe_batch(bert, [TEXT] * 4, tokenizer=tokenizer, tokens=18, masked_share=0.25, rng=1)
    assert again.hash == probe.hash != other.hash


def test_the_hash_is_of_ids_mask_targets_and_objective(gpt: Any) -> None:
    probe = probe_batch(gpt, IDS)
    assert probe.hash == probe_batch(gpt, IDS.copy()).hash == probe_batch(gpt, probe).hash
    changed = IDS.copy()
    changed[2, 3] = 6
    mask = np.ones_like(IDS)
    mask[0, 7] = 0
    others = [
        probe_batch(gpt, changed), probe_batch(gpt, {"input_ids": IDS, "attention_mask": mask}),
        probe_batch(gpt, IDS, objective="none"), probe_batch(gpt, {"input_ids": IDS, "labels": changed}),
    ]
    assert len({probe.hash, *(o.hash for o in others)}) == 5


def test_a_batch_is_cut_to_the_texts_and_tokens_asked_for(gpt: Any) -> None:
    assert probe_batch(gpt, IDS, texts=2, tokens=5).shape == (2, 5)


def test_objectives_by_class() -> None:
    from transformers import BertConfig, BertModel

    headless = BertModel(BertConfig(
        num_hidden_layers=1, hidden_size=16, num_attention_heads=2, intermediate_size=16, vocab_size=67,
    ))
    assert probe_batch(headless, IDS).objective == "none"
    assert probe_batch(headless, IDS).n_targets == 0
    assert probe_batch(make_specimen("t5"), IDS).objective == "none"
    assert probe_batch(make_specimen("llama"), IDS).objective == "next token"
    assert probe_batch(make_specimen("xlnet"), IDS).objective == "none"
    plain = torch.nn.Sequential(torch.nn.Embedding(67, 4), torch.nn.Linear(4, 67))
    assert probe_batch(plain, IDS).objective == "none"
    assert probe_batch(plain, {"input_ids": IDS, "labels": IDS}).objective == "other"
    assert (probe_batch(plain, {"input_ids": IDS, "labels": IDS}).targets == IDS).all()
    assert (probe_batch(plain, IDS, objective="next token").targets[:, 0] == IDS[:, 1]).all()


def test_what_is_wrapped_around_a_model_is_taken_off(gpt: Any) -> None:
    assert bare(torch.nn.DataParallel(gpt)) is gpt
    with pytest.raises(ArgumentError, match=r"found int, wanted a torch module"):
        bare(3)


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"data": None}, ArgumentError, "give tokenizer="),
    ({"data": ["a text"]}, ArgumentError, "texts need one"),
    ({"data": [TEXT, " "], "tokenizer": True}, TextError, "text 1 of the probe batch is empty"),
    ({"data": ["the cat"], "tokenizer": True}, TextError, "at least 4"),
    ({"data": IDS + 60}, ArgumentError, "token id 88, but GPT2LMHeadModel has 67 embeddings"),
    ({"data": IDS - 9}, ArgumentError, "token id -4"),
    ({"data": IDS * 1.0}, ArgumentError, "dtype float64"),
    ({"data": IDS[0]}, ShapeError, r"\(8,\), wanted \(texts, tokens\)"),
    ({"data": [[5, 6, 7, 8], [5, 6]]}, ShapeError, "different lengths"),
    ({"data": IDS[:, :3]}, ShapeError, "3 tokens, wanted at least 4"),
    ({"data": {"labels": IDS}}, ArgumentError, "wanted input_ids"),
    ({"data": {"input_ids": IDS, "labels": IDS[:, :4]}}, ShapeError, "labels: found shape"),
    ({"data": {"input_ids": IDS, "labels": IDS[:, 0]}}, ShapeError, r"\(3,\), one for each text.*leave labels that"),
    ({}, ArgumentError, "^probe: found None and no tokenizer"),
    ({"data": {"input_ids": IDS, "attention_mask": IDS * 0}}, ShapeError, "look at its attention_mask"),
    ({"data": {"input_ids": IDS, "attention_mask": 2 * np.ones_like(IDS)}}, ArgumentError, "wanted 0 and 1"),
    ({"data": np.full((2, 1030), 5), "tokens": 1030}, ShapeError, "holds 1024; give tokens=1024"),
    ({"data": IDS, "objective": "all"}, ArgumentError, "wanted one of next token"),
    ({"data": IDS, "objective": "other"}, ArgumentError, "no labels"),
    ({"data": IDS, "objective": "masked token"}, ArgumentError, "mask token"),
    ({"data": IDS, "masked_share": 1.5}, ArgumentError, "between 0 and 1"),
    ({"data": IDS, "texts": 0}, ArgumentError, "texts"),
    ({"data": IDS, "tokens": 3}, ArgumentError, "tokens"),
])
def test_what_does_not_fit_is_refused(gpt: Any, arguments: dict[str, Any], error: Any, message: str) -> None:
    if arguments.get("tokenizer"):
        arguments = {**arguments, "tokenizer": make_tokenizer()}
    with pytest.raises(error, match=message):
        probe_batch(gpt, **arguments)


def test_a_model_without_tokens_and_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ModelError, match="no token embedding"):
        probe_batch(torch.nn.Linear(2, 2), IDS)
    with pytest.raises(ShapeError, match="the same for all three"):
        ProbeBatch(ids=IDS, mask=IDS[:, :4], targets=IDS, objective="none")
    with pytest.raises(ArgumentError, match="objective"):
        ProbeBatch(ids=IDS, mask=np.ones_like(IDS), targets=IDS, objective="x")  # type: ignore[arg-type]


def test_padding_on_the_left_predicts_nothing(gpt: Any) -> None:
    mask = np.ones_like(IDS)
    mask[1, :3] = 0
    probe = probe_batch(gpt, {"input_ids": IDS, "attention_mask": mask})
    assert (probe.targets[1] == [-100, -100, -100, *IDS[1, 4:], -100]).all()
    labels = probe_batch(gpt, {"input_ids": IDS, "attention_mask": mask, "labels": IDS})
    assert (labels.targets == probe.targets).all()
