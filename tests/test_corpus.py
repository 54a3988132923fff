"""Corpora on disk: the numbers, what survives an interruption, what is refused, what is held in memory."""

from __future__ import annotations

import errno
import gc
import hashlib
import importlib
import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from infogeo import estimate_background
from infogeo.errors import ArgumentError, DomainError, FormatError, ModelError, OutputError, TextError
from infogeo.results import installed_versions
from infogeo_adapters import _corpus_files, capture_activations, capture_corpus, load_model, open_corpus
from infogeo_adapters._corpus_files import held

EXTRA = "needs the extra: pip install 'infogeo[transformers]'"
torch = pytest.importorskip("torch", reason=EXTRA)
pytest.importorskip("transformers", reason=EXTRA)
_corpus_capture = importlib.import_module("infogeo_adapters._corpus_capture")

BASE = (
    "The quick brown fox jumps over the lazy dog.", "Don't stop! said the old man.", "She sells sea shells.",
    "All the children ran home because it was raining (and they were hungry).", "It is unbelievable.", "He didn't.",
    "3.14 miles to the well-known house.",
)
TEXTS = [f"{BASE[i % 7]} {BASE[i * i % 5]}" if i % 3 else f"{BASE[i % 7]} {i}" for i in range(30)]
SHARD = 200
ARGS = {"shard_tokens": SHARD, "batch_tokens": 90}
PYTHON_PATH = os.pathsep.join(p for p in sys.path if p)


@pytest.fixture
def gpt2(tiny):
    return tiny("gpt2")


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """The files of a run without interruption."""
    folder = tmp_path_factory.mktemp("corpora") / "whole"
    capture_corpus(tiny("gpt2"), TEXTS, folder, **ARGS)
    return files(folder)


def files(folder):
    return {p.name: p.read_bytes() for p in sorted(Path(folder).iterdir())}


def numbers(texts=TEXTS):
    """Lazy texts that note how many were taken."""

    def generate():
        for text in texts:
            generate.taken += 1
            yield text

    generate.taken = 0
    return generate


class PowerCutError(Exception):
    pass


def cut_at(n):
    def progress(done, total):
        if done >= n:
            raise PowerCutError

    return progress


# The numbers


def test_what_is_stored_is_what_a_capture_of_each_text_gives(any_model, tmp_path):
    texts = TEXTS[:9]
    corpus = capture_corpus(any_model, iter(texts), tmp_path / "c", shard_tokens=70, batch_tokens=90)
    assert len(corpus) == len(list(corpus)) == 9
    assert len(corpus.shards) > 1
    for i, (text, found) in enumerate(zip(texts, corpus, strict=True)):
        wanted = capture_activations(any_model, text, attention=False)
        made = found.to_activations()
        assert found.index == i
        assert found.words == made.words == wanted.words
        assert found.tokens == wanted.tokens
        assert made.text == wanted.text == text
        assert made.causal == wanted.causal
        assert found.source.text_hash == hashlib.sha256(text.encode()).hexdigest()
        assert found.source.content_hash == any_model.source.content_hash
        for name in ("token_ids", "token_spans", "token_words", "special", "word_spans"):
            np.testing.assert_array_equal(getattr(made, name), getattr(wanted, name))
        scale = np.abs(wanted.hidden_states).max()
        np.testing.assert_allclose(made.hidden_states, wanted.hidden_states, rtol=0, atol=2e-5 * scale)
        np.testing.assert_array_equal(corpus[i].states[1], found.states[1])
    assert corpus.n_tokens == sum(len(t.tokens) for t in corpus)
    assert corpus.n_words == sum(len(t.words) for t in corpus)


def test_shards_are_safetensors_that_others_can_read(gpt2, tmp_path):
    import safetensors.numpy
    import safetensors.torch

    for dtype in ("float32", "bfloat16"):
        corpus = capture_corpus(gpt2, TEXTS[:5], tmp_path / dtype, dtype=dtype)
        path = tmp_path / dtype / "shard-00000.safetensors"
        read = safetensors.torch.load_file(path)
        assert read["layer.2"].dtype == getattr(torch, dtype)
        np.testing.assert_array_equal(read["layer.2"].float().numpy(), next(corpus.layer(2)))
        assert bytes(read["text"].numpy()).decode() == "".join(TEXTS[:5])
        start = int(read["text_tokens"][3])
        np.testing.assert_array_equal(read["layer.1"][start].float().numpy(), corpus[3].layer(1)[0])
    read = safetensors.numpy.load_file(tmp_path / "float32" / "shard-00000.safetensors")
    assert all(array.dtype != object for array in read.values())


def test_formats_of_numbers_are_those_of_torch(gpt2, tmp_path):
    states = {}
    for dtype in ("float64", "float32", "float16", "bfloat16"):
        corpus = capture_corpus(gpt2, TEXTS[:4], tmp_path / dtype, dtype=dtype)
        states[dtype] = next(corpus.layer(-1))
        assert states[dtype].dtype == {"bfloat16": np.float32}.get(dtype, dtype)
    exact = torch.from_numpy(np.array(states["float32"]))
    np.testing.assert_array_equal(states["float64"], exact.double().numpy())
    np.testing.assert_array_equal(states["float16"], exact.half().numpy())
    np.testing.assert_array_equal(states["bfloat16"], exact.bfloat16().float().numpy())
    assert (states["bfloat16"] != states["float32"]).any()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_number_beyond_the_format_is_an_error_and_never_infinite(make_tiny, tmp_path, dtype):
    model, tokenizer = make_tiny("gpt2")
    token = tokenizer(TEXTS[2])["input_ids"][-1]
    with torch.no_grad():
        model.transformer.wte.weight[token, 3] = {"float16": 7e4, "bfloat16": 3.4e38}[dtype]
    loaded = load_model(model, tokenizer=tokenizer)
    texts = ["aa", "oo", TEXTS[2]]
    with pytest.raises(DomainError, match=f"layer 0 of text number 2 holds .*, which {dtype} cannot hold"):
        capture_corpus(loaded, texts, tmp_path / "c", dtype=dtype, layers=[0])
    assert set(files(tmp_path / "c")) == {"manifest.json"}
    stored = capture_corpus(loaded, texts, tmp_path / "c", layers=[0])  # nothing was captured, so other options may be
    assert np.isfinite(next(stored.layer(0))).all()


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_words_are_pooled_over_their_own_tokens(tiny, tmp_path, pooling):
    model = tiny("bert")
    corpus = capture_corpus(model, TEXTS[:8], tmp_path / "words", layers=[2, -1], pooling=pooling, **ARGS)
    tokens = capture_corpus(model, TEXTS[:8], tmp_path / "tokens", **ARGS)
    assert corpus.layers == (2, 3)
    rows = np.concatenate(list(corpus.layer(2)))
    assert rows.shape == (corpus.n_words, 32)
    table = np.concatenate(list(corpus.word_table()))
    for text, other in zip(corpus, tokens, strict=True):
        for w in range(len(text.words)):
            mine = [s for s, owner in zip(other.states[2], other.token_words, strict=True) if owner == w]
            wanted = {"mean": np.mean(np.float64(mine), axis=0), "first": mine[0], "last": mine[-1]}[pooling]
            np.testing.assert_allclose(text.layer(2)[w], wanted, rtol=1e-5, atol=1e-6)
            (row,) = np.flatnonzero((table["text"] == text.index) & (table["word"] == w))
            np.testing.assert_array_equal(rows[row], text.layer(2)[w])
            assert text.text[table["first"][row] : table["end"][row]] == text.words[w]
        vectors = other.word_vectors(2, pooling=pooling)
        np.testing.assert_allclose(vectors, text.word_vectors(2, pooling=pooling), rtol=1e-5, atol=1e-5)
        acts = capture_activations(model, other.text, attention=False)
        np.testing.assert_allclose(acts.word_vectors(2, pooling=pooling), text.layer(2), rtol=1e-4, atol=1e-4)
    assert any((text.token_words[1:] == text.token_words[:-1]).any() for text in tokens)  # words of several tokens
    with pytest.raises(ArgumentError, match="needs the token vectors"):
        corpus[0].to_activations()
    with pytest.raises(ArgumentError, match="captured with"):
        corpus[0].word_vectors(2, pooling="last" if pooling == "mean" else "mean")
    with pytest.raises(ArgumentError, match="layer 1 was not captured; this corpus has layers 2, 3"):
        corpus.layer(1)
    with pytest.raises(ArgumentError, match="not captured"):
        corpus[0].layer(0)
    with pytest.raises(KeyError):
        corpus[0].states[0]
    with pytest.raises(ArgumentError, match="pooling 'max' does not exist"):
        tokens[0].word_vectors(1, pooling="max")


def test_rows_of_a_layer_are_named_by_the_token_table(gpt2, tmp_path):
    corpus = capture_corpus(gpt2, TEXTS, tmp_path / "c", **ARGS)
    table, rows = np.concatenate(list(corpus.token_table())), np.concatenate(list(corpus.layer(1)))
    assert len(table) == len(rows) == corpus.n_tokens
    assert [len(t) for t in corpus.token_table()] == [len(s) for s in corpus.layer(1)]
    for text in (corpus[0], corpus[11], corpus[-1]):
        mine = table["text"] == text.index
        np.testing.assert_array_equal(rows[mine], text.states[1])
        np.testing.assert_array_equal(table["position"][mine], np.arange(len(text.tokens)))
        for column, values in (("id", text.token_ids), ("word", text.token_words), ("special", text.special)):
            np.testing.assert_array_equal(table[column][mine], values)


def test_estimators_take_a_corpus(gpt2, tmp_path):
    corpus = capture_corpus(gpt2, TEXTS, tmp_path / "c", **ARGS)
    background = estimate_background(text.to_activations() for text in corpus)
    wanted = estimate_background(capture_activations(gpt2, TEXTS, attention=False))
    assert background.n_words == wanted.n_words == corpus.n_words
    np.testing.assert_allclose(background.covariance, wanted.covariance, rtol=1e-4, atol=1e-5)


def test_arrays_are_views_that_cannot_be_written(gpt2, tmp_path):
    text = capture_corpus(gpt2, TEXTS[:3], tmp_path / "c")[1]
    for array in (text.states[0], text.token_ids, text.special):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    with pytest.raises(AttributeError):
        text.index = 3


def test_a_model_in_bfloat16_loses_nothing_in_bfloat16(make_tiny, tmp_path):
    model, tokenizer = make_tiny("llama")
    model = load_model(model.to(torch.bfloat16), tokenizer=tokenizer)
    wide = capture_corpus(model, TEXTS[:4], tmp_path / "wide")
    narrow = capture_corpus(model, TEXTS[:4], tmp_path / "narrow", dtype="bfloat16")
    assert wide.source.dtype == narrow.source.dtype == "bfloat16"
    for layer in wide.layers:
        np.testing.assert_array_equal(next(wide.layer(layer)), next(narrow.layer(layer)))


def test_without_texts_words_have_spans_only(gpt2, tmp_path):
    corpus = capture_corpus(gpt2, TEXTS[:3], tmp_path / "c", store_text=False)
    assert corpus[0].text is None
    assert len(corpus[0].word_spans) == len(corpus[0].word_vectors(1))
    for wants_text in (lambda: corpus[0].words, corpus[0].to_activations):
        with pytest.raises(ArgumentError, match="store_text=True"):
            wants_text()
    assert all(b"lazy dog" not in content for content in files(tmp_path / "c").values())


def test_a_long_text_is_cut_where_that_is_asked_for(gpt2, tmp_path):
    long = " ".join(TEXTS)
    corpus = capture_corpus(gpt2, ["Short.", long], tmp_path / "c", overflow="truncate")
    wanted = capture_activations(gpt2, long, attention=False, overflow="truncate")
    assert corpus[1].truncated_words == wanted.source.options["truncated_words"] > 0
    assert corpus[0].truncated_words == 0
    assert corpus[1].words == wanted.words
    assert capture_corpus(gpt2, ["Short.", long], tmp_path / "c", overflow="truncate")[1].text == wanted.text


def test_a_corpus_is_a_sequence_a_table_and_can_be_pickled(gpt2, tmp_path):
    corpus = capture_corpus(gpt2, TEXTS, tmp_path / "c", **ARGS)
    again = pickle.loads(pickle.dumps(corpus))
    assert repr(again) == repr(corpus) == corpus.summary()
    assert "30 texts" in repr(corpus)
    assert "layers 0, 1, 2, 3 as float32" in repr(corpus)
    assert again[np.int64(-1)].text == TEXTS[-1]
    columns, rows = corpus.rows()
    assert dict(zip(columns, rows[1], strict=True))["first_text"] == corpus.shards[0].texts
    assert json.loads(corpus.to_json())["layers"] == [0, 1, 2, 3]
    assert corpus.source.versions == installed_versions()
    columns, rows = corpus[0].rows()
    assert [row[0] for row in rows] == list(corpus[0].tokens)
    assert "CorpusText 0 of" in corpus[0].summary()
    for wrong in (30, -31, "first", slice(2)):
        with pytest.raises(ArgumentError, match="corpus\\["):
            corpus[wrong]


# Going on after an interruption


@pytest.mark.parametrize("n", [1, 4, 9, 17, 24, 30])
def test_an_interrupted_capture_goes_on_without_loss_or_repetition(gpt2, whole, tmp_path, monkeypatch, n):
    folder, runs = tmp_path / "c", []
    with pytest.raises(PowerCutError):
        capture_corpus(gpt2, iter(TEXTS), folder, progress=cut_at(n), **ARGS)
    assert set(files(folder)) <= set(whole)
    done = sum(s["texts"] for s in json.loads((folder / "manifest.json").read_text())["shards"])
    assert done < n  # whole shards only
    original = _corpus_capture.run_items
    monkeypatch.setattr(_corpus_capture, "run_items", lambda m, i, **k: runs.append(len(i)) or original(m, i, **k))
    capture_corpus(gpt2, iter(TEXTS), folder, **ARGS)
    assert sum(runs) == len(TEXTS) - done
    assert files(folder) == whole


def test_a_finished_corpus_is_read_and_not_run_again(gpt2, whole, tmp_path, monkeypatch):
    folder = tmp_path / "c"
    capture_corpus(gpt2, TEXTS, folder, **ARGS)
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    monkeypatch.setattr(_corpus_capture, "run_items", None)
    monkeypatch.setattr(_corpus_capture, "prepare", None)
    seen = []
    corpus = capture_corpus(gpt2, iter(TEXTS), folder, progress=lambda *counts: seen.append(counts), **ARGS)
    assert seen == [(s.first_text + s.texts, 0) for s in corpus.shards]
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == before
    assert files(folder) == whole


def test_more_texts_may_follow(gpt2, whole, tmp_path):
    folder, seen = tmp_path / "c", []
    for n in (5, 6, 22, 30):
        capture_corpus(gpt2, TEXTS[:n], folder, **ARGS)
        assert len(open_corpus(folder)) == n
    assert files(folder) == whole
    capture_corpus(gpt2, TEXTS[:5], tmp_path / "d", **ARGS)
    with pytest.raises(PowerCutError):
        capture_corpus(gpt2, TEXTS, tmp_path / "d", progress=cut_at(6), **ARGS)
    capture_corpus(gpt2, TEXTS, tmp_path / "d", progress=lambda *counts: seen.append(counts), **ARGS)
    assert seen[-1] == (30, 30)
    assert files(tmp_path / "d") == whole


def test_missing_shards_are_captured_again(gpt2, whole, tmp_path):
    folder = tmp_path / "c"
    capture_corpus(gpt2, TEXTS, folder, **ARGS)
    names = sorted(whole)[1:]
    assert len(names) >= 4
    for gone in ([names[1]], [names[0], names[2]], [names[-1]], names):
        for name in gone:
            (folder / name).unlink()
        with pytest.raises(FormatError, match=f"{gone[0]} is missing; call capture_corpus again"):
            open_corpus(folder)
        with pytest.raises(PowerCutError):
            capture_corpus(gpt2, TEXTS, folder, progress=cut_at(15), **ARGS)
        capture_corpus(gpt2, TEXTS, folder, **ARGS)
        assert files(folder) == whole


def test_a_capture_cut_off_while_it_replaces_a_shard_is_not_taken_for_whole(gpt2, whole, tmp_path, monkeypatch):
    folder = tmp_path / "c"
    capture_corpus(gpt2, TEXTS, folder, **ARGS)
    (folder / "shard-00001.safetensors").unlink()
    monkeypatch.setattr(_corpus_capture.Manifest, "write", dying(_corpus_capture.Manifest.write, 2))
    with pytest.raises(PowerCutError):
        capture_corpus(gpt2, TEXTS, folder, **ARGS)
    monkeypatch.undo()
    with pytest.raises(ArgumentError, match="cut off"):
        open_corpus(folder)
    with pytest.raises(FormatError, match=r"shard-00001\.safetensors was being captured again"):
        open_corpus(folder, unfinished=True)
    capture_corpus(gpt2, TEXTS, folder, **ARGS)
    assert files(folder) == whole


def dying(function, nth, error=PowerCutError):
    """The function, which fails at its n-th call."""

    def called(*args, **kwargs):
        called.count += 1
        if called.count == nth:
            raise error() if isinstance(error, type) else error
        return function(*args, **kwargs)

    called.count = 0
    return called


def test_an_unfinished_corpus_is_opened_only_when_asked_for(gpt2, tmp_path):
    folder = tmp_path / "c"
    with pytest.raises(PowerCutError):
        capture_corpus(gpt2, TEXTS, folder, progress=cut_at(20), **ARGS)
    with pytest.raises(ArgumentError, match=r"was cut off after \d+ texts; call capture_corpus again"):
        open_corpus(folder)
    corpus = open_corpus(folder, unfinished=True)
    assert not corpus.complete
    assert 0 < len(corpus) < 20
    assert [t.text for t in corpus] == TEXTS[: len(corpus)]
    assert "unfinished" in repr(pickle.loads(pickle.dumps(corpus)))


KILLED = """
    import os, random, signal, sys, time
    from pathlib import Path
    import torch
    torch.set_num_threads(1)  # no threads, so that the process may be forked
    sys.path[:0] = [{tests!r}]
    from conftest import tiny_model, tiny_tokenizer
    from infogeo_adapters import capture_corpus, load_model
    model = load_model(tiny_model("gpt2"), tokenizer=tiny_tokenizer("gpt2"))
    texts = {texts!r}

    def capture(folder):
        capture_corpus(model, iter(texts), folder, shard_tokens={shard}, batch_tokens=90)

    def child(folder, prepare):
        pid = os.fork()
        if not pid:
            prepare()
            capture(folder)
            os._exit(0)
        return pid

    begin = time.perf_counter()
    capture({folder!r} + "/timed")
    seconds = time.perf_counter() - begin

    rng, killed = random.Random(0), 0
    for i in range(8):  # at random moments, twice in each folder
        folder = {folder!r} + f"/random{{i // 2}}"
        pid = child(folder, lambda: None)
        time.sleep(rng.uniform(0.05, 0.8) * seconds)
        os.kill(pid, signal.SIGKILL)
        killed += os.waitpid(pid, 0)[1] == signal.SIGKILL
    print(killed)

    def doomed(nth):  # right before a file is made safe or renamed, which is right after what came before that
        count = 0
        def wrap(module, name):
            original = getattr(module, name)
            def called(*args):
                nonlocal count
                count += 1
                if count == nth:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args)
            setattr(module, name, called)
        wrap(os, "fsync"), wrap(os, "replace")
    killed = 0
    for nth in range(1, 200):
        folder = {folder!r} + f"/step{{nth}}"
        if os.waitpid(child(folder, lambda: doomed(nth)), 0)[1] != signal.SIGKILL:
            break
        killed += 1
    print(killed)
    for folder in sorted(Path({folder!r}).iterdir()):
        capture(folder)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the test forks processes; run it on Linux or macOS")
def test_a_process_that_is_killed_at_any_moment_leaves_nothing_wrong(tmp_path):
    code = KILLED.format(tests=str(Path(__file__).parent), texts=TEXTS[:9], shard=70, folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False,
        env={"PYTHONPATH": PYTHON_PATH, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    assert done.returncode == 0, done.stderr
    at_random, at_steps = map(int, done.stdout.split())
    assert at_random >= 4
    uninterrupted = files(tmp_path / "timed")
    shards = len(uninterrupted) - 1
    assert shards >= 3
    # at each shard: it is synced, renamed, its folder synced, and so the manifest; one manifest before and one after
    assert at_steps == 6 * shards + 6
    folders = sorted(tmp_path.iterdir())
    assert len(folders) == 1 + 4 + at_steps + 1
    for folder in folders:
        assert files(folder) == uninterrupted, folder.name


# Texts, taken one by one


def test_nothing_is_read_ahead(gpt2, tmp_path, monkeypatch):
    texts, taken = numbers(), []
    original = _corpus_capture.Manifest.write
    monkeypatch.setattr(
        _corpus_capture.Manifest, "write", lambda m, f: taken.append((texts.taken, len(m.shards))) or original(m, f)
    )
    corpus = capture_corpus(gpt2, texts(), tmp_path / "c", **ARGS)
    ends = [s.first_text + s.texts for s in corpus.shards]
    assert taken == [(ends[0], 0), *((end, k) for k, end in enumerate(ends, 1)), (30, len(ends))]
    for shard in corpus.shards[:-1]:
        last = corpus[shard.first_text + shard.texts - 1]
        assert shard.tokens - len(last.tokens) < SHARD <= shard.tokens


def test_memory_is_bounded_by_a_shard_and_a_batch(gpt2, tmp_path):
    def peak(count):
        texts = (f"{TEXTS[i % 30]} {i}" for i in range(count))
        tracemalloc.start()
        # torch leaves cycles behind, which Python would collect when there are more of them
        capture_corpus(
            gpt2, texts, tmp_path / str(count), progress=lambda done, total: done % 15 or gc.collect(),
            shard_tokens=500, batch_tokens=200,
        )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    gc.collect()
    gc.freeze()  # what was there before need not be looked through each time
    peak(20)
    few, many = peak(60), peak(150)
    gc.unfreeze()
    assert many < 1.1 * few
    assert many < 512 * 500 + 4 * 4 * 4 * 32 * 200 + 200_000
    size = sum(p.stat().st_size for p in (tmp_path / "150").iterdir())
    assert size > 4 * many  # so it cannot have been held

    corpus = open_corpus(tmp_path / "150")
    tracemalloc.start()
    total = sum(float(text.states[2].sum(dtype=np.float64)) for text in corpus)
    total_by_layer = sum(float(states.sum(dtype=np.float64)) for states in corpus.layer(2))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == pytest.approx(total_by_layer)
    assert most < 150_000


def test_batches_are_of_texts_of_like_length(gpt2, tmp_path, monkeypatch):
    from infogeo_adapters.transformers import forward

    batches, original = [], forward.batches_of

    def noted(lengths, batch_tokens, **more):
        for batch in original(lengths, batch_tokens, **more):
            batches.append([lengths[i] for i in batch])
            yield batch

    monkeypatch.setattr(forward, "batches_of", noted)
    capture_corpus(gpt2, TEXTS, tmp_path / "c", batch_tokens=150)
    assert all(max(b) * len(b) <= 150 for b in batches)
    assert len(batches) > 3
    padding = sum(max(b) * len(b) - sum(b) for b in batches)
    assert padding < 0.15 * sum(map(sum, batches))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (7, "number 12 is of type int"), ("", "number 12 cannot be used: text: found an empty text"),
        ("a\x00b", "number 12 cannot be used"), (" ".join(TEXTS), r"number 12 cannot be used.*the context .* holds 64"),
    ],
)
def test_a_bad_text_is_named_by_its_number(gpt2, whole, tmp_path, bad, message):
    folder = tmp_path / "c"
    with pytest.raises(TextError, match=message) as caught:
        capture_corpus(gpt2, [*TEXTS[:12], bad, *TEXTS[12:]], folder, **ARGS)
    kept = sum(s.texts for s in open_corpus(folder, unfinished=True).shards)
    if not isinstance(bad, int):
        assert f"{kept} are kept" in str(caught.value)
    assert set(files(folder)) < set(whole)
    capture_corpus(gpt2, TEXTS, folder, **ARGS)
    assert files(folder) == whole


def test_without_texts_there_is_no_corpus_and_no_folder(gpt2, tmp_path):
    with pytest.raises(TextError, match="found no texts"):
        capture_corpus(gpt2, iter(()), tmp_path / "c")
    assert not (tmp_path / "c").exists()
    (tmp_path / "d").mkdir()
    with pytest.raises(TextError, match="found no texts"):
        capture_corpus(gpt2, [], tmp_path / "d")
    assert files(tmp_path / "d") == {}


def test_an_error_of_the_texts_themselves_comes_through(gpt2, whole, tmp_path):
    def broken():
        yield from TEXTS[:20]
        raise PowerCutError

    with pytest.raises(PowerCutError):
        capture_corpus(gpt2, broken(), tmp_path / "c", **ARGS)
    assert not (tmp_path / "c" / "capture.lock").exists()
    capture_corpus(gpt2, TEXTS, tmp_path / "c", **ARGS)
    assert files(tmp_path / "c") == whole


@pytest.mark.parametrize("deleted", [False, True])
def test_another_text_in_the_same_place_is_refused(gpt2, whole, tmp_path, deleted):
    folder = tmp_path / "c"
    corpus = capture_corpus(gpt2, TEXTS, folder, **ARGS)
    second = corpus.shards[1]
    number = second.first_text + 1
    if deleted:
        (folder / second.file).unlink()
    texts = [*TEXTS[:number], "Another one.", *TEXTS[number + 1 :]]
    among = f"among numbers {second.first_text} to {second.first_text + second.texts - 1} one is"
    message = among if deleted else f"number {number} is"
    with pytest.raises(ArgumentError, match=f"texts: {message} another text than the one captured"):
        capture_corpus(gpt2, texts, folder, **ARGS)
    with pytest.raises(ArgumentError, match="they end after 29, but"):
        capture_corpus(gpt2, TEXTS[:29], folder, **ARGS)
    capture_corpus(gpt2, TEXTS, folder, **ARGS)
    assert files(folder) == whole


# What is refused


def untouched():
    raise AssertionError("a text was read")
    yield


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": [0, 1]}, r"layers was \[0, 1, 2, 3\] and is now \[0, 1\]"),
        ({"pooling": "mean"}, "pooling was None and is now 'mean'"),
        ({"dtype": "float16"}, r"the number format on the disk \(dtype\) was 'float32' and is now 'float16'"),
        ({"shard_tokens": 300}, "shard_tokens was 200 and is now 300"),
        ({"overflow": "truncate"}, "overflow was 'error' and is now 'truncate'"),
        ({"store_text": False}, "store_text was True and is now False"),
    ],
)
def test_other_options_are_refused_before_any_work(gpt2, tmp_path, change, message):
    capture_corpus(gpt2, TEXTS[:9], tmp_path / "c", **ARGS)
    before = files(tmp_path / "c")
    with pytest.raises(ArgumentError, match=message) as caught:
        capture_corpus(gpt2, untouched(), tmp_path / "c", **{**ARGS, **change})
    assert "choose another folder" in str(caught.value)
    assert files(tmp_path / "c") == before


def test_another_model_tokenizer_or_precision_is_refused_before_any_work(gpt2, make_tiny, tmp_path):
    capture_corpus(gpt2, TEXTS[:9], tmp_path / "c", **ARGS)
    model, tokenizer = make_tiny("gpt2")
    with torch.no_grad():
        model.transformer.h[1].mlp.c_proj.bias += 1e-3
    with pytest.raises(ArgumentError, match=r"model's weights \(SHA-256\) was [0-9a-f]{12}\.\.\. and is now") as caught:
        capture_corpus(load_model(model, tokenizer=tokenizer), untouched(), tmp_path / "c", **ARGS)
    assert "the tokenizer" not in str(caught.value)
    model, tokenizer = make_tiny("gpt2")
    tokenizer.add_tokens(["unbelievable"])
    model.resize_token_embeddings(gpt2.model.config.vocab_size)
    with pytest.raises(ArgumentError, match=r"the tokenizer \(SHA-256\) was") as caught:
        capture_corpus(load_model(model, tokenizer=tokenizer), untouched(), tmp_path / "c", **ARGS)
    assert "the model's weights" not in str(caught.value)
    half = load_model(make_tiny("gpt2")[0].to(torch.bfloat16), tokenizer=make_tiny("gpt2")[1])
    with pytest.raises(ArgumentError, match="the model computes in was 'float32' and is now 'bfloat16'"):
        capture_corpus(half, untouched(), tmp_path / "c", **ARGS)


def test_padding_set_on_a_tokenizer_does_not_make_it_another(make_tiny, tmp_path):
    model, tokenizer = make_tiny("bert")
    loaded = load_model(model, tokenizer=tokenizer)
    capture_corpus(loaded, TEXTS[:3], tmp_path / "c")
    tokenizer(TEXTS[:2], padding=True, truncation=True, max_length=8)
    assert len(capture_corpus(loaded, TEXTS[:4], tmp_path / "c")) == 4


def test_a_smaller_batch_may_go_on(gpt2, tmp_path):
    with pytest.raises(PowerCutError):
        capture_corpus(gpt2, TEXTS, tmp_path / "c", progress=cut_at(20), **ARGS)
    corpus = capture_corpus(gpt2, TEXTS, tmp_path / "c", **{**ARGS, "batch_tokens": 40})
    sessions = json.loads((tmp_path / "c" / "manifest.json").read_text())["sessions"]
    assert [s["batch_tokens"] for s in sessions] == [90, 40]
    assert [s.session for s in corpus.shards] == sorted(s.session for s in corpus.shards)
    assert {s.session for s in corpus.shards} == {0, 1}


def test_weights_that_change_meanwhile_are_noticed(make_tiny, tmp_path):
    model, tokenizer = make_tiny("gpt2")
    loaded = load_model(model, tokenizer=tokenizer)

    def train(done, total):
        if done == 15:
            with torch.no_grad():
                model.transformer.h[0].mlp.c_proj.bias.add_(1e-3)

    with pytest.raises(ModelError, match="weights changed during the capture"):
        capture_corpus(loaded, TEXTS, tmp_path / "c", progress=train, **ARGS)
    assert all(not name.endswith(".partial") for name in files(tmp_path / "c"))


def test_states_that_are_not_finite_name_layer_and_texts(make_tiny, tmp_path):
    model, tokenizer = make_tiny("gpt2")
    loaded = load_model(model, tokenizer=tokenizer)
    with torch.no_grad():
        model.transformer.h[1].mlp.c_proj.bias[3] = float("nan")
    with pytest.raises(DomainError, match="in texts 0 to 4: hidden_states: layer 2 holds NaN"):
        capture_corpus(loaded, TEXTS[:5], tmp_path / "c")


def test_wrong_arguments_are_refused(gpt2, tmp_path):
    folder = tmp_path / "c"
    for message, arguments in {
        "model: found str": ("bundled", TEXTS, folder), "texts: found str": (gpt2, "One text.", folder),
        "texts: found int": (gpt2, 3, folder), "folder: found None": (gpt2, TEXTS, None),
        "texts: found a set, whose order": (gpt2, set(TEXTS), folder), "folder: found 'a": (gpt2, TEXTS, "a\0b"),
    }.items():
        with pytest.raises(ArgumentError, match=message):
            capture_corpus(*arguments)
    for message, options in {
        "layer 4 does not exist": {"layers": [4]}, "layers: found none": {"layers": []},
        "layers: found 2": {"layers": 2}, "layers: found 'all'": {"layers": "all"},
        "pooling 'max'": {"pooling": "max"}, "dtype 'int8' cannot be stored": {"dtype": "int8"},
        "batch_tokens: found 0": {"batch_tokens": 0}, "shard_tokens: found 2.5": {"shard_tokens": 2.5},
        "overflow 'cut'": {"overflow": "cut"}, "store_text: found 1": {"store_text": 1},
        "progress: found int": {"progress": 3}, "dtype ['float32'] cannot": {"dtype": ["float32"]},
        "pooling array(": {"pooling": np.array(["mean", "last"])},
    }.items():
        with pytest.raises(ArgumentError, match=re.escape(message)):
            capture_corpus(gpt2, untouched(), folder, **options)
    assert not folder.exists()
    with pytest.raises(OutputError, match="too long"):
        capture_corpus(gpt2, untouched(), tmp_path / ("c" * 300))
    made = capture_corpus(gpt2, TEXTS[:2], folder, shard_tokens=np.int64(9), batch_tokens=np.int64(9))
    assert len(made) == 2
    with pytest.raises(ArgumentError, match="unfinished: found 'no'"):
        open_corpus(folder, unfinished="no")


def test_folders_of_other_things_are_left_alone(gpt2, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "shard-00000.safetensors").write_bytes(b"somebody's")
    with pytest.raises(ArgumentError, match=r"holds other files \(shard-00000.safetensors\) and no manifest.json"):
        capture_corpus(gpt2, untouched(), tmp_path / "c")
    assert files(tmp_path / "c") == {"shard-00000.safetensors": b"somebody's"}
    (tmp_path / "f").write_text("a file")
    with pytest.raises(ArgumentError, match="is a file"):
        capture_corpus(gpt2, untouched(), tmp_path / "f")
    with pytest.raises(ArgumentError, match="is a file"):
        open_corpus(tmp_path / "f")
    with pytest.raises(ArgumentError, match=r"has no manifest\.json; give the folder that capture_corpus wrote"):
        open_corpus(tmp_path)


# Damage


def test_a_shard_cut_short_is_named_and_captured_again_after_it_is_deleted(gpt2, whole, tmp_path):
    folder = tmp_path / "c"
    opened = capture_corpus(gpt2, TEXTS, folder, **ARGS)
    path = folder / "shard-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    size = len(whole[path.name])
    message = f"{path.name} was cut short: it has {size - 1} bytes, the manifest says {size}; delete {path.name}"
    for use in (
        lambda: open_corpus(folder), lambda: capture_corpus(gpt2, untouched(), folder, **ARGS), lambda: list(opened),
        opened.verify,
    ):
        with pytest.raises(FormatError, match=message):
            use()
    path.unlink()
    capture_corpus(gpt2, TEXTS, folder, **ARGS).verify()
    assert files(folder) == whole


def test_an_altered_shard_is_found_by_its_hash(gpt2, tmp_path):
    folder = tmp_path / "c"
    corpus = capture_corpus(gpt2, TEXTS, folder, **ARGS)
    seen = []
    corpus.verify(progress=lambda *counts: seen.append(counts))
    assert seen == [(k, len(corpus.shards)) for k in range(1, len(corpus.shards) + 1)]
    path = folder / "shard-00002.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(FormatError, match=f"{path.name} was altered: its SHA-256 .* delete {path.name}"):
        open_corpus(folder).verify()
    for header in (b"\xff" * 8, (10**6).to_bytes(8, "little"), (30).to_bytes(8, "little")):
        path.write_bytes(header + content[8:])
        with pytest.raises(FormatError, match=f"{path.name} is damaged .*delete {path.name}"):
            list(open_corpus(folder))
    path.write_bytes(bytes(content).replace(b'"layer.1"', b'"layer.7"'))
    with pytest.raises(FormatError, match=f"{path.name} is damaged: it has no layer.1"):
        list(open_corpus(folder).layer(1))
    path.write_bytes(bytes(content).replace(b'"text_hashes"', b'"text_bashes"'))
    with pytest.raises(FormatError, match=f"{path.name} is damaged: it has no text_hashes"):
        capture_corpus(gpt2, TEXTS, folder, **ARGS)
    path.write_bytes(bytes(content).replace(b'"vocabulary"', b'"vocabulerx"'))
    with pytest.raises(FormatError, match=f"{path.name} is damaged .KeyError"):
        list(open_corpus(folder))
    first_text = bytes(content).rindex(b"The")
    path.write_bytes(bytes(content[:first_text]) + b"\xff" * 3 + bytes(content[first_text + 3 :]))
    with pytest.raises(FormatError, match=f"{path.name} is damaged .UnicodeDecodeError.*delete {path.name}"):
        list(open_corpus(folder))


def test_too_many_open_files_are_not_taken_for_damage(gpt2, tmp_path, monkeypatch):
    corpus = capture_corpus(gpt2, TEXTS[:3], tmp_path / "c")

    def refused(*args, **kwargs):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(np, "memmap", refused)
    with pytest.raises(FormatError, match="cannot be read: Too many open files") as caught:
        corpus[0]
    assert "delete" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m[: len(m) // 2], "is damaged .*capture the texts again"),
        (lambda m: b"[]", "is not the manifest of a corpus"), (lambda m: b"\xff\xfe", "is damaged"),
        (lambda m: m.replace(b'"format_version": 1', b'"format_version": 2'), "format version 2, this infogeo reads 1"),
        (lambda m: m.replace(b"shard-00001", b"../secret-1"), "makes no sense"),
        (lambda m: m.replace(b'"first_text": 0', b'"first_text": 3'), "begins with text 3, not 0"),
        (lambda m: m.replace(b'"settings"', b'"setting"'), "KeyError"),
        (lambda m: m.replace(b'"causal"', b'"casual"'), "TypeError"),
        (lambda m: m.replace(b'"tokens": ', b'"tokens": -'), "makes no sense"),
    ],
)
def test_a_damaged_manifest_is_an_error_of_ours(gpt2, whole, tmp_path, change, message):
    for name, content in whole.items():
        (tmp_path / name).write_bytes(change(content) if name == "manifest.json" else content)
    for use in (lambda: open_corpus(tmp_path), lambda: capture_corpus(gpt2, untouched(), tmp_path, **ARGS)):
        with pytest.raises(FormatError, match=message):
            use()


# Disks that are full, folders that cannot be written


NO_SPACE = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


MOMENTS = [
    *(pytest.param(_corpus_files, "write_at", n, id=f"write{n}") for n in (1, 2, 3, 40, 100, 150)),
    *(pytest.param(os, "fsync", n, id=f"fsync{n}") for n in (1, 2, 3, 4, 5, 6, 11)),
    *(pytest.param(os, "replace", n, id=f"replace{n}") for n in (1, 2, 3, 5)),
    *(pytest.param(os, "posix_fallocate", n, id=f"reserve{n}") for n in (1, 3)),
]


@pytest.mark.parametrize(("module", "name", "nth"), MOMENTS)
def test_a_disk_that_is_full_at_any_moment(gpt2, whole, tmp_path, monkeypatch, module, name, nth):
    if not hasattr(module, name):
        pytest.skip(f"this system has no {name}; nothing to test")
    folder = tmp_path / "c"
    monkeypatch.setattr(module, name, dying(getattr(module, name), nth, NO_SPACE))
    with pytest.raises(OutputError, match=r"No space left on device; .*free some space") as caught:
        capture_corpus(gpt2, TEXTS, folder, **ARGS)
    monkeypatch.undo()
    found = files(folder) if folder.exists() else {}
    assert set(found) <= set(whole)  # no temporary files, no lock
    shards = [n for n in found if n != "manifest.json"]
    kept = open_corpus(folder, unfinished=True) if shards else ()
    wanted = f"{len(shards)} shards with {len(kept)} texts are kept" if shards else "nothing was captured yet"
    assert wanted in str(caught.value)
    assert len(getattr(kept, "shards", ())) == len(shards)
    capture_corpus(gpt2, TEXTS, folder, **ARGS)
    assert files(folder) == whole


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own, of 128 kB, where the system lets us have one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)], capture_output=True, check=False
    ) if sys.platform == "linux" else None
    if mounted is None or mounted.returncode:
        pytest.skip("mounting a small disk needs Linux and its administrator; the test before this one needs neither")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_real_full_disk_and_a_real_read_only_one(gpt2, tmp_path, small_disk):
    folder = small_disk / "c"
    with pytest.raises(OutputError, match=r"No space left on device.* texts are kept in .*free some space"):
        capture_corpus(gpt2, TEXTS, folder, **ARGS)
    kept = open_corpus(folder, unfinished=True)
    assert 0 < len(kept) < 30
    assert set(files(folder)) == {"manifest.json", *(s.file for s in kept.shards)}
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    corpus = capture_corpus(gpt2, TEXTS, folder, **ARGS)
    assert len(corpus) == 30
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OutputError, match=r"Read-only file system; \d shards with 30 texts are kept .*open_corpus\("):
        capture_corpus(gpt2, TEXTS, folder, **ARGS)
    with pytest.raises(OutputError, match="Read-only file system; nothing was captured yet"):
        capture_corpus(gpt2, TEXTS, small_disk / "new", **ARGS)
    assert len(list(open_corpus(folder))) == 30  # reading needs no right to write


def test_a_folder_without_permission(gpt2, tmp_path, monkeypatch):
    folder = tmp_path / "c"
    capture_corpus(gpt2, TEXTS[:9], folder, **ARGS)
    denied = dying(os.open, 1, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(OutputError, match=r"Permission denied; .* with 9 texts are kept .*make the folder writable"):
        capture_corpus(gpt2, TEXTS, folder, **ARGS)


# One process at a time


HOLDER = """
    import sys, time
    from pathlib import Path
    from infogeo_adapters._corpus_files import held
    with held(Path({folder!r})):
        print("held", flush=True)
        time.sleep(60)
"""


def test_two_processes_do_not_write_into_one_folder(gpt2, tmp_path):
    code = textwrap.dedent(HOLDER.format(folder=str(tmp_path)))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": PYTHON_PATH}
    ) as other:
        try:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(OutputError, match=f"is being written by process {other.pid} on .*; wait for it"):
                capture_corpus(gpt2, untouched(), tmp_path)
            assert (tmp_path / "capture.lock").exists()
        finally:
            os.kill(other.pid, signal.SIGKILL)
    assert (tmp_path / "capture.lock").exists()
    assert len(capture_corpus(gpt2, TEXTS[:3], tmp_path)) == 3
    assert not (tmp_path / "capture.lock").exists()


def test_a_lock_left_behind(gpt2, tmp_path, monkeypatch):
    import socket

    path = tmp_path / "capture.lock"
    with held(tmp_path), pytest.raises(OutputError, match="being written by"), held(tmp_path):
        pass
    assert not path.exists()
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for content in ("", "{", "[]", json.dumps({"pid": ended.pid, "host": socket.gethostname()})):
        path.write_text(content)
        with held(tmp_path):
            assert json.loads(path.read_text()) == {"pid": os.getpid(), "host": socket.gethostname()}
    path.write_text(json.dumps({"pid": ended.pid, "host": "another-machine"}))
    message = rf"process {ended.pid} on another-machine.*delete .*capture\.lock"
    with pytest.raises(OutputError, match=message), held(tmp_path):
        pass
    monkeypatch.setattr(_corpus_files, "_lock", lambda handle: None)  # a file system that cannot lock
    path.write_text(json.dumps({"pid": ended.pid, "host": socket.gethostname()}))
    with held(tmp_path):
        pass
    path.write_text(json.dumps({"pid": os.getppid(), "host": socket.gethostname()}))
    with pytest.raises(OutputError, match=f"process {os.getppid()} on"), held(tmp_path):
        pass


def test_a_lock_deleted_while_it_is_taken_is_not_relied_on(tmp_path, monkeypatch):
    """Another process ends between our opening of its lock and our locking: the file we hold has no name any more."""
    path, original = tmp_path / "capture.lock", _corpus_files._lock

    def late(handle):
        if late.first:
            late.first = False
            path.unlink()
        return original(handle)

    late.first = True
    monkeypatch.setattr(_corpus_files, "_lock", late)
    with held(tmp_path):
        assert path.exists()
        monkeypatch.undo()
        with pytest.raises(OutputError, match="being written"), held(tmp_path):
            pass


def test_random_access_agrees_with_the_loop(gpt2, tmp_path):
    corpus = capture_corpus(gpt2, TEXTS, tmp_path / "c", **ARGS)
    listed = list(corpus)
    for i in random.Random(1).choices(range(-30, 30), k=60):
        assert corpus[i].text == listed[i].text == TEXTS[i]
        np.testing.assert_array_equal(corpus[i].states[3], listed[i].states[3])
