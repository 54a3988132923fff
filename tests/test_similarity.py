"""Distances between word types against human judgments: the statistics, the normals of types, and real models."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from scipy import linalg, stats

from infogeo import (
    Categorical,
    DiagonalGaussian,
    Gaussian,
    PointMass,
    SharedCovarianceGaussian,
    Source,
    cosine_distance,
    fisher_rao_distance,
    occurrence_normals,
)
from infogeo.errors import ArgumentError, DomainError, FormatError, ShapeError
from infogeo.word_similarity import WordPairs, compare_similarities
from infogeo.word_types import diagonal_normals, full_normals, means_of_words, shared_normals


def make_pairs(p: int, seed: int = 0) -> WordPairs:
    rng = np.random.default_rng(seed)
    return WordPairs(
        first=tuple(f"a{k}" for k in range(p)), second=tuple(f"b{k}" for k in range(p)),
        scores=np.round(rng.uniform(0, 10, p), 0), source=Source(),
    )


def spearman(distances, scores) -> float:
    return float(stats.spearmanr(-np.asarray(distances), scores).statistic)


# The statistics


def tables_for(pairs: WordPairs, seed: int = 1) -> dict[str, np.ndarray]:
    """Distances of known worth: each variant is minus the scores with noise of its own size."""
    rng = np.random.default_rng(seed)

    def some(*noise: float) -> np.ndarray:
        return np.stack([10 - pairs.scores + size * rng.normal(size=len(pairs)) for size in noise])

    return {"cosine": some(9.0, 3.0, 20.0), "better": some(30.0, 9.0, 0.5), "worse": some(80.0, 90.0, 100.0)}


def test_estimates_are_those_of_a_plain_loop():
    pairs = make_pairs(41)
    tables = tables_for(pairs)
    found = compare_similarities(pairs, tables, variants=("x", "y", "z"), resamples=50, level=0.8, rng=7)

    rng = np.random.default_rng(7)
    order = rng.permutation(41)
    one, two = sorted(order[:20].tolist()), sorted(order[20:].tolist())
    reported = {}
    for name, table in tables.items():
        rho = [[spearman(row[half], pairs.scores[half]) for row in table] for half in (one, two)]
        best = int(np.argmax(rho[0])), int(np.argmax(rho[1]))
        e = found.estimate(name)
        assert e.chosen == ("xyz"[best[0]], "xyz"[best[1]])
        assert e.on_halves == pytest.approx((rho[1][best[0]], rho[0][best[1]]))
        assert e.spearman == pytest.approx((21 * rho[1][best[0]] + 20 * rho[0][best[1]]) / 41)
        reported[name] = best
    drawn = {name: np.zeros(50) for name in tables}
    for which, half, weight in ((0, two, 21 / 41), (1, one, 20 / 41)):
        picks = rng.integers(len(half), size=(50, len(half)))
        for name, table in tables.items():
            row, scores = table[reported[name][which]][half], pairs.scores[half]
            drawn[name] += weight * np.array([spearman(row[pick], scores[pick]) for pick in picks])
    for name in tables:
        e = found.estimate(name)
        assert e.interval == pytest.approx(tuple(np.quantile(drawn[name], [0.1, 0.9])))
        if name == "cosine":
            assert e.difference is None
            assert e.difference_interval is None
        else:
            assert e.difference == pytest.approx(e.spearman - found.estimate("cosine").spearman)
            away = drawn[name] - drawn["cosine"]
            assert e.difference_interval == pytest.approx(tuple(np.quantile(away, [0.1, 0.9])))
    for m, table in enumerate(tables.values()):
        assert found.by_variant[m] == pytest.approx([spearman(row, pairs.scores) for row in table])


def test_a_better_measure_is_found_better_and_noise_is_not():
    pairs = make_pairs(200)
    found = compare_similarities(pairs, tables_for(pairs), variants=("x", "y", "z"), resamples=400)
    better, worse = found.estimate("better"), found.estimate("worse")
    assert better.chosen == ("z", "z")
    assert better.difference_interval[0] > 0 > worse.difference_interval[1]
    assert better.interval[0] < better.spearman < better.interval[1]
    assert "better 0.9" in found.summary()


def test_choosing_among_much_noise_gains_nothing():
    rng = np.random.default_rng(3)
    values, best = [], []
    for seed in range(12):
        pairs = make_pairs(60, seed)
        noise = {"cosine": rng.normal(size=(300, 60))}
        found = compare_similarities(pairs, noise, variants=[str(v) for v in range(300)], resamples=2, rng=seed)
        best.append(found.by_variant.max())
        values.append(found.estimate("cosine").spearman)
    assert abs(np.mean(values)) < 0.1
    assert np.mean(best) > 0.3  # what reporting on the pairs that it was chosen on would say


def test_the_bootstrap_in_pieces_is_that_in_one(monkeypatch):
    from infogeo import word_similarity

    rng = np.random.default_rng(0)
    values, scores = rng.normal(size=(3, 9)), rng.normal(size=9)
    whole = word_similarity._resampled(values, scores, 40, np.random.default_rng(5))
    pieces = word_similarity._resampled(values, scores, 40, np.random.default_rng(5), memory=48 * 27 * 7)
    assert np.array_equal(whole, pieces)


def test_what_is_undefined_is_said_and_the_rest_goes_on():
    pairs = make_pairs(20)
    tables = tables_for(pairs)
    tables["better"][1] = np.nan
    tables["flat"] = np.ones((3, 20))
    found = compare_similarities(pairs, tables, variants=("x", "y", "z"), resamples=20)
    assert [e.measure for e in found.estimates] == ["cosine", "better", "worse"]
    assert found.by_variant.shape == (3, 3)
    assert np.isnan(found.by_variant[1, 1])
    assert "better, y" in found.undefined[0]
    assert "flat" in found.undefined[-1]
    with pytest.raises(DomainError, match="'flat' has no coefficient"):
        compare_similarities(pairs, tables, variants=("x", "y", "z"), reference="flat")


def test_guards_of_the_comparison():
    pairs = make_pairs(12)
    good = {"cosine": np.arange(12.0)[None]}
    with pytest.raises(ArgumentError, match="reference: found 'euclid'"):
        compare_similarities(pairs, good, variants=("x",), reference="euclid")
    with pytest.raises(ShapeError, match=r"cosine: found shape \(1, 12\), wanted \(2, 12\)"):
        compare_similarities(pairs, good, variants=("x", "y"))
    with pytest.raises(DomainError, match="'a3' and 'b3' in x is inf"):
        compare_similarities(pairs, {"cosine": np.where(np.arange(12) == 3, np.inf, 1.0)[None]}, variants=("x",))
    with pytest.raises(DomainError, match="'a3' and 'b3' in x is nan"):
        compare_similarities(pairs, {"cosine": np.where(np.arange(12) == 3, np.nan, 1.0)[None]}, variants=("x",))
    with pytest.raises(DomainError, match="found 7, wanted at least 8"):
        compare_similarities(make_pairs(7), {"cosine": np.arange(7.0)[None]}, variants=("x",))
    for level in (0, 1, "much"):
        with pytest.raises(ArgumentError, match="level"):
            compare_similarities(pairs, good, variants=("x",), level=level)
    with pytest.raises(ArgumentError, match="resamples"):
        compare_similarities(pairs, good, variants=("x",), resamples=0)
    with pytest.raises(ArgumentError, match="variants"):
        compare_similarities(pairs, good, variants="x")
    with pytest.raises(ArgumentError, match="wanted WordPairs"):
        compare_similarities([("a", "b", 1.0)], good, variants=("x",))
    same = WordPairs(first=("a",) * 8, second=("b",) * 8, scores=np.ones(8), source=Source())
    with pytest.raises(DomainError, match="judgments of a half are the same"):
        compare_similarities(same, {"cosine": np.arange(8.0)[None]}, variants=("x",))
    found = compare_similarities(pairs, good, variants=("x",), resamples=5)
    with pytest.raises(ArgumentError, match="wanted one of 'cosine'"):
        found.estimate("sine")


def test_a_result_is_a_table_and_json():
    pairs = make_pairs(12)
    found = compare_similarities(pairs, tables_for(pairs), variants=("x", "y", "z"), resamples=10)
    columns, rows = found.rows()
    assert columns[:4] == ("measure", "chosen_on_first", "chosen_on_second", "spearman")
    assert [len(row) for row in rows] == [len(columns)] * 3
    assert rows[0][columns.index("difference")] is None
    assert found.to_dict()["estimates"][1]["measure"] == "better"
    assert '"by_variant"' in found.to_json()
    with pytest.raises(ValueError, match="read-only"):
        found.by_variant[0, 0] = 1


def test_word_pairs_are_checked():
    with pytest.raises(ShapeError, match="at least one"):
        WordPairs(first=(), second=(), scores=[], source=Source())
    with pytest.raises(ShapeError, match="scores"):
        WordPairs(first=("a", "b"), second=("c", "d"), scores=[1.0], source=Source())
    with pytest.raises(ShapeError, match="2 first and 1 second"):
        WordPairs(first=("a", "b"), second=("c",), scores=[1.0, 2.0], source=Source())
    with pytest.raises(DomainError, match="entry 1 is ' '"):
        WordPairs(first=("a", " "), second=("c", "d"), scores=[1.0, 2.0], source=Source())
    with pytest.raises(DomainError, match="scores"):
        WordPairs(first=("a",), second=("c",), scores=[np.nan], source=Source())


# Normals of word types


@pytest.fixture
def cloud():
    rng = np.random.default_rng(4)
    members = rng.permutation(np.repeat(np.arange(6), [9, 12, 15, 9, 30, 11]))
    vectors = rng.normal(size=(86, 5)) @ rng.normal(size=(5, 5)) + 2 * rng.normal(size=(6, 5))[members]
    return vectors, members


def test_means_and_the_shared_covariance_are_those_of_a_loop(cloud):
    vectors, members = cloud
    means = np.array([vectors[members == w].mean(axis=0) for w in range(6)])
    assert means_of_words(vectors, members) == pytest.approx(means)
    scatter = sum((vectors[members == w] - means[w]).T @ (vectors[members == w] - means[w]) for w in range(6))
    found = shared_normals(vectors, members, shrinkage=0.0)
    assert isinstance(found, SharedCovarianceGaussian)
    assert found.mean == pytest.approx(means)
    assert found.cov == pytest.approx(scatter / (86 - 6))
    half = shared_normals(vectors, members, shrinkage=0.5)
    target = np.trace(scatter) / 5 * np.eye(5)
    assert half.cov == pytest.approx(0.5 * (scatter + target) / (86 - 6))
    ruled = shared_normals(vectors, members)
    assert np.trace(ruled.cov) == pytest.approx(np.trace(found.cov))
    assert not np.allclose(ruled.cov, found.cov)


def test_diagonal_normals_are_those_of_the_library(bundled):
    from infogeo_adapters import capture_activations

    texts = ["The dog saw a cat and the cat saw the dog.", "A dog and a cat saw the cat run."]
    activations = capture_activations(bundled, texts, attention=False)
    wanted = occurrence_normals(activations, 3, shrinkage=0.3, rare="drop")
    words = [w for text in activations for w in text.words]
    vectors = np.concatenate([text.word_vectors(3) for text in activations])
    kept = [k for k, w in enumerate(words) if w in wanted.words]
    found = diagonal_normals(vectors[kept], [wanted.words.index(words[k]) for k in kept], shrinkage=0.3)
    assert found.mean == pytest.approx(wanted.distribution.mean)
    assert found.var == pytest.approx(wanted.distribution.var)


def test_full_normals_are_those_of_the_generalized_eigenproblem(cloud):
    vectors, members = cloud
    found = full_normals(vectors, members, directions=2, shrinkage=0.4, within=0.0)
    assert isinstance(found, Gaussian)
    means = means_of_words(vectors, members)
    within = shared_normals(vectors, members, shrinkage=0.0).cov
    _, directions = linalg.eigh(np.cov(means.T, bias=True), within)
    axes = directions[:, ::-1][:, :2]
    own = np.stack([np.cov((vectors[members == w] @ axes).T) for w in range(6)])
    counts = np.bincount(members)
    pooled = sum((n - 1) * s for n, s in zip(counts, own, strict=True)) / (counts - 1).sum()
    twin = Gaussian(means @ axes, 0.6 * own + 0.4 * pooled)
    distances = fisher_rao_distance(found[:, None], found[None])
    assert distances == pytest.approx(fisher_rao_distance(twin[:, None], twin[None]), rel=1e-8, abs=1e-8)
    assert distances.max() > 1


def test_full_normals_do_not_depend_on_the_coordinates(cloud):
    vectors, members = cloud
    turned = vectors @ np.random.default_rng(8).normal(size=(5, 5)) + 3.0
    one, two = (full_normals(v, members, directions=3, within=0.0) for v in (vectors, turned))
    first = fisher_rao_distance(one[:, None], one[None])
    assert fisher_rao_distance(two[:, None], two[None]) == pytest.approx(first, rel=1e-7, abs=1e-7)


def test_guards_of_the_normals(cloud):
    vectors, members = cloud
    with pytest.raises(ArgumentError, match="directions: found 6"):
        full_normals(vectors, members, directions=6)
    with pytest.raises(ArgumentError, match="fewer than 2"):
        full_normals(vectors, np.arange(86) % 2, directions=2)
    for make in (full_normals, diagonal_normals):
        with pytest.raises(DomainError, match="word 6 occurs 1 times"):
            make(vectors, np.append(members[:-1], 6))
        with pytest.raises(ArgumentError, match=r"shrinkage: found 1\.5"):
            make(vectors, members, shrinkage=1.5)
    with pytest.raises(DomainError, match="found intensity -1"):
        shared_normals(vectors, members, shrinkage=-1.0)
    with pytest.raises(DomainError, match="every word occurs once"):
        shared_normals(vectors, np.arange(86))
    with pytest.raises(DomainError, match="the same vector"):
        shared_normals(np.ones((4, 2)), [0, 0, 1, 1])
    with pytest.raises(DomainError, match="singular"):
        full_normals(np.array([[0.0, 0], [1, 0], [0, 0], [3, 0], [1, 0], [0, 0]]), [0, 0, 1, 1, 2, 2], directions=1,
                     within=0.0)
    with pytest.raises(DomainError, match="word 1 occurs 0 times"):
        means_of_words(vectors[:2], [0, 2])
    with pytest.raises(DomainError, match="from 0"):
        means_of_words(vectors[:2], [0, -1])
    with pytest.raises(ShapeError, match="members"):
        means_of_words(vectors, members[:-1])


# Files of pairs


def written(folder: Path, text: str | bytes) -> Path:
    file = folder / "pairs.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return file


@pytest.mark.parametrize(
    "text",
    [
        "tiger\tcat\t7.35\nNew York\tcity\t8\n",
        "word1,word2,score\ntiger,cat,7.35\n\"New York\",city,8\n",
        "\ufeffword1\tword2\thuman (mean)\r\ntiger\tcat\t7.35\r\nNew York\tcity\t8.0\r\n",
        "# of somebody\n\ntiger, cat, 7.35\n\nNew York, city, 8",
    ],
)
def test_files_with_tabs_commas_headers_and_comments(tmp_path, text):
    from infogeo_adapters.treebank.similarity import read_word_pairs

    pairs = read_word_pairs(written(tmp_path, text))
    assert pairs.rows()[1] == [("tiger", "cat", 7.35), ("New York", "city", 8.0)]
    assert pairs.words() == ("tiger", "cat", "New York", "city")
    assert pairs.source.options["pairs"] == "pairs.txt"
    assert len(pairs.source.text_hash) == 64


def test_columns_of_a_wider_file(tmp_path):
    from infogeo_adapters.treebank.similarity import read_word_pairs

    file = written(tmp_path, "w1\tw2\tPOS\tSimLex\nold\tnew\tA\t1.58\nsmart\tbright\tA\t9.2\n")
    assert read_word_pairs(file, columns=(0, 1, 3)).scores.tolist() == [1.58, 9.2]
    assert read_word_pairs(file, columns=(1, 0, 3)).first == ("new", "bright")
    for columns in ((0, 1), (0, 0, 2), "012", (0, 1, -1), (0, 1, 2.0)):
        with pytest.raises(ArgumentError):
            read_word_pairs(file, columns=columns)


def test_bad_lines_are_named_by_their_numbers(tmp_path):
    from infogeo_adapters.treebank.similarity import read_word_pairs

    text = "word1,word2,score\na,b,1\n\na,b\na,,3\na,b,high\na,b,nan\na,b,1,2\nc,d,2\n"
    with pytest.raises(FormatError) as caught:
        read_word_pairs(written(tmp_path, text))
    said = str(caught.value)
    for part in (
        "line 4 has 2 fields, wanted 3, as in line 1", "line 5 has an empty word", "line 6: found score 'high'",
        "line 7: found score 'nan'", "line 8 has 4 fields",
    ):
        assert part in said
    with pytest.raises(FormatError, match="and 3 more lines"):
        read_word_pairs(written(tmp_path, "a,b,1\n" + "a,b\n" * 8))
    with pytest.raises(FormatError, match="line 1: found score '7,5'"):  # digits: no header
        read_word_pairs(written(tmp_path, "a\tb\t7,5\n"))
    for score in ("", "-", "nan", "-inf", "1_0"):  # no names of a column
        with pytest.raises(FormatError, match=f"line 1: found score '{score}', wanted a finite number"):
            read_word_pairs(written(tmp_path, f"a,b,{score}\nc,d,1\n"))
    with pytest.raises(FormatError, match="line 2: field larger than field limit"):
        read_word_pairs(written(tmp_path, f"a,b,1\na,{'b' * 200_000},1\n"))
    with pytest.raises(FormatError, match="line 2 is not UTF-8"):
        read_word_pairs(written(tmp_path, b"a,b,1\nca\xff,b,2\n"))
    for text in ("", "\n\n", "word1,word2,score\n"):
        with pytest.raises(FormatError, match="no pairs"):
            read_word_pairs(written(tmp_path, text))
    with pytest.raises(FormatError, match="line 1 has 2 fields, wanted at least 3"):
        read_word_pairs(written(tmp_path, "a,b\n"))
    with pytest.raises(ArgumentError, match="cannot read"):
        read_word_pairs(tmp_path / "none.csv")


# Models


PAIRS = [
    ("dog", "cat", 9.0), ("dog", "house", 2.0), ("king", "queen", 9.5), ("king", "apple", 1.0), ("sun", "moon", 7.0),
    ("sun", "spoon", 1.5), ("boy", "girl", 8.5), ("boy", "river", 0.5), ("tree", "apple", 6.0), ("tree", "dog", 2.5),
]
WORDS = tuple(dict.fromkeys(w for a, b, _ in PAIRS for w in (a, b)))
CORPUS = [
    "\n\n".join(f"The {a} saw the {b} near a {c}. Then a {b} met the old {a}, and the {c} was there."
                for a, b, c in zip(WORDS, WORDS[1:] + WORDS[:1], WORDS[3:] + WORDS[:3], strict=True)),
    "Kings and queens.\n\n" + "\n\n".join(f"One day my {w} was gone, so I found another {w}." for w in WORDS),
]


@pytest.fixture(scope="module")
def small_background(bundled):
    from infogeo_adapters import capture_background

    return capture_background(bundled, CORPUS[0])


@pytest.fixture(scope="module")
def compare(bundled, small_background):
    from infogeo_adapters.treebank.similarity import compare_with_similarity

    def run(pairs=PAIRS, model=bundled, **options):
        options = {"background": small_background, "layers": [2, 4], "resamples": 50, **options}
        return compare_with_similarity(model, pairs, **options)

    return run


def by_hand(vectors: dict[str, np.ndarray], distance) -> float:
    return spearman([distance(vectors[a], vectors[b]) for a, b, _ in PAIRS], [s for *_, s in PAIRS])


def test_words_alone_and_in_a_template(bundled, compare, small_background):
    from infogeo_adapters import capture_activations

    for template in (None, "I like the {}, I do."):
        found = compare(template=template)
        vectors = {}
        for word in WORDS:
            text = word if template is None else template.replace("{}", word)
            acts = capture_activations(bundled, text)
            vectors[word] = acts.word_vectors(4)[acts.words.index(word)]
        row = dict(zip([e.measure for e in found.estimates], found.by_variant[:, 1], strict=True))
        assert row["cosine"] == pytest.approx(by_hand(vectors, lambda x, y: 1 - x @ y / np.sqrt(x @ x * (y @ y))))
        assert row["Euclidean"] == pytest.approx(by_hand(vectors, lambda x, y: np.linalg.norm(x - y)))
        mean = small_background.mean[4]
        assert row["cosine, centered"] == pytest.approx(
            by_hand(vectors, lambda x, y, m=mean: cosine_distance(PointMass(x - m), PointMass(y - m)))
        )
        covariance, _ = small_background.shrunk_covariance(4)
        solve = np.linalg.inv(covariance)
        assert row["Fisher-Rao, covariance of a background"] == pytest.approx(
            by_hand(vectors, lambda x, y, s=solve: (x - y) @ s @ (x - y))
        )
        univariate = by_hand(vectors, lambda x, y: fisher_rao_distance(
            DiagonalGaussian([x.mean()], [x.var()]), DiagonalGaussian([y.mean()], [y.var()])
        ))
        assert row["Fisher-Rao, normals of components"] == pytest.approx(univariate)
        assert sum("wants a corpus" in reason for reason in found.undefined) == 3
        assert not found.missing
        assert not found.left_out
        assert found.source.options["texts"] == len(WORDS)
    assert "I like the" in found.source.options["words"]


def test_words_in_a_corpus_are_those_of_a_plain_loop(bundled, compare):
    from infogeo_adapters import capture_activations, read_out

    found = compare(corpus=CORPUS, min_count=2, max_count=1000, directions=(2, 3), shrinkage=0.4)
    vectors, predicted = {w: [] for w in WORDS}, {w: [] for w in WORDS}
    for text in CORPUS:
        for paragraph in text.split("\n\n"):
            acts = capture_activations(bundled, paragraph)
            rows, log_probs = acts.word_vectors(4), read_out(bundled, acts, 4)
            for k, word in enumerate(acts.words):
                if word in vectors:
                    vectors[word].append(rows[k])
                    predicted[word].append(np.exp(log_probs[np.flatnonzero(acts.token_words == k)[-1]]))
    row = dict(zip([e.measure for e in found.estimates], found.by_variant[:, 1], strict=True))
    assert len(row) == 10
    assert found.source.options["occurrences"] == sum(map(len, vectors.values()))
    means = {w: np.mean(v, axis=0) for w, v in vectors.items()}
    assert row["cosine"] == pytest.approx(by_hand(means, lambda x, y: 1 - x @ y / np.sqrt(x @ x * (y @ y))), abs=1e-6)
    stacked = np.concatenate([vectors[w] for w in WORDS])
    members = np.repeat(np.arange(len(WORDS)), [len(vectors[w]) for w in WORDS])
    batches = {
        "Fisher-Rao, covariance within words": shared_normals(stacked, members),
        "Fisher-Rao, full normals in 2 directions": full_normals(stacked, members, directions=2, shrinkage=0.4),
        "Fisher-Rao, full normals in 3 directions": full_normals(stacked, members, directions=3, shrinkage=0.4),
        "Fisher-Rao, diagonal normals": diagonal_normals(stacked, members, shrinkage=0.4),
        "Fisher-Rao, read-out": Categorical.from_probs(np.stack([np.mean(predicted[w], axis=0) for w in WORDS])),
    }
    for name, batch in batches.items():
        numbers = {w: k for k, w in enumerate(WORDS)}
        wanted = by_hand(numbers, lambda i, j, b=batch: float(fisher_rao_distance(b[i], b[j])))
        assert row[name] == pytest.approx(wanted, abs=0.02), name  # float32 states may exchange two close pairs
    assert found.undefined == ()


def test_pairs_in_blocks_have_the_distances_of_all_at_once(compare, monkeypatch):
    from infogeo_adapters.treebank import similarity

    whole = compare(corpus=CORPUS, min_count=2, directions=2)
    sizes = []

    def watched(p, q):
        sizes.append(len(p))
        return fisher_rao_distance(p, q)

    monkeypatch.setattr(similarity, "MEMORY", 64 * 4096 * 3)  # three pairs over the vocabulary, all of other measures
    monkeypatch.setattr(similarity, "fisher_rao_distance", watched)
    blocks = compare(corpus=CORPUS, min_count=2, directions=2)
    assert np.array_equal(blocks.by_variant, whole.by_variant)
    assert blocks.estimates == whole.estimates
    assert min(sizes) < len(PAIRS)
    assert max(sizes) == len(PAIRS)


def test_no_more_occurrences_than_asked_for_and_the_seed_decides_which(compare):
    few = compare(corpus=CORPUS, min_count=2, max_count=3)
    assert few.source.options["occurrences"] == 3 * len(WORDS)
    again, other = (compare(corpus=CORPUS, min_count=2, max_count=3, rng=seed) for seed in (0, 1))
    assert np.array_equal(few.by_variant, again.by_variant)
    assert few.estimates == again.estimates
    assert not np.array_equal(few.by_variant, other.by_variant)


def test_missing_words_are_named_and_their_pairs_left_out_for_all_measures(compare):
    pairs = [*PAIRS, ("dog", "quasar", 0.1), ("nebula", "quasar", 8.0), ("dogs", "cat", 5.0)]
    found = compare(pairs, corpus=[*CORPUS, "A quasar! The quasar. One nebula, and dogs."], min_count=3)
    assert len(found.pairs) == len(PAIRS)
    assert set(found.missing) == {"quasar", "nebula", "dogs"}
    assert found.missing["quasar"] == "occurs 2 times in the corpus, wanted at least 3"
    assert [pair[:2] for pair in found.left_out] == [("dog", "quasar"), ("nebula", "quasar"), ("dogs", "cat")]
    assert "'nebula' occurs 1 times" in found.left_out[1][2]
    assert "'quasar' occurs 2 times" in found.left_out[1][2]
    assert "on 10 of 13 pairs" in found.summary()
    with pytest.raises(DomainError, match=r"none of 3 could be read \('red'"):
        compare([("red", "blue", 1.0), ("red", "green", 2.0)], corpus="Nothing to see here.")
    with pytest.raises(DomainError, match="of no pair both words"):
        compare([("dog", "quasar", 1.0)] * 9, corpus=CORPUS)
    with pytest.raises(DomainError, match="found 2, wanted at least 8"):
        compare(PAIRS[:2])


def test_case_phrases_and_parts_of_words():
    from infogeo_adapters.treebank._occurrences import _Finder

    find = _Finder(["dog", "new york", "york", "don't", "well-known"], True)
    text = "Dog-eared dogs, a DOG's life; New  York and York (well-known). Don't dog--dog!"
    assert [(key, text[i:j]) for key, (i, j) in find(text)] == [
        ("dog", "DOG"), ("new york", "New  York"), ("york", "York"), ("well-known", "well-known"), ("don't", "Don't"),
        ("dog", "dog"), ("dog", "dog"),
    ]
    assert [key for key, _ in _Finder(["dog"], False)("Dog dog")] == ["dog"]


def test_case_of_pairs_and_corpus(compare):
    upper = [(a.upper(), b.title(), s) for a, b, s in PAIRS]
    one, two = (compare(pairs, corpus=CORPUS, min_count=2) for pairs in (PAIRS, upper))
    assert np.array_equal(one.by_variant, two.by_variant)
    with pytest.raises(DomainError, match="none of"):
        compare(upper, corpus=CORPUS, ignore_case=False)


def test_a_word_that_the_tokenizer_does_not_know(tiny):
    from infogeo_adapters import capture_background
    from infogeo_adapters.treebank._occurrences import Reading, read_alone

    model = tiny("bert")
    how = Reading((0, 1), "mean", False, 256, None)
    found = read_alone(model, ["fox", "\u4e2d", " ", "dog"], None, how)
    assert found.words == ("fox", "dog")
    assert found.missing["\u4e2d"] == "the tokenizer knows no part of it"
    assert found.missing[" "].startswith("cannot be read: text: found only white space")
    assert found.vectors.shape == (2, 2, model.model.config.hidden_size)
    assert found.last is None
    assert capture_background(model, "The fox ran. The dog ran.").n_words == 8


def test_an_encoder_of_two_stacks_has_no_read_out_and_all_families_run(tiny, family):
    from infogeo_adapters import capture_background
    from infogeo_adapters.treebank.similarity import compare_with_similarity

    model = tiny(family)
    words = ("fox", "dog", "river", "stone", "old", "quick", "hungry", "little", "house")
    pairs = [(a, b, float(k)) for k, (a, b) in enumerate(itertools.pairwise(words))]
    corpus = "\n\n".join(f"the {w} is a {w} and no {w}" for w in words)
    mode = model.model.training
    seen = []
    found = compare_with_similarity(
        model, pairs, corpus=corpus, min_count=3, directions=2, resamples=5, max_tokens=24,
        background=capture_background(model, corpus), progress=lambda done, total: seen.append((done, total)),
    )
    assert model.model.training == mode
    read_out = family in ("gpt2", "llama", "bert")  # of the other two the encoder reads
    assert ("Fisher-Rao, read-out" in {e.measure for e in found.estimates}) == read_out
    assert any("predicts no tokens" in reason for reason in found.undefined) != read_out
    assert seen[-1] == (found.source.options["texts"],) * 2
    assert len(found.pairs) == 8


def test_guards_of_the_comparison_with_a_model(bundled, tiny, compare):
    from infogeo_adapters import capture_background

    with pytest.raises(ArgumentError, match="load_model"):
        compare(model="minilm")
    with pytest.raises(ArgumentError, match="beside a corpus"):
        compare(corpus=CORPUS, template="a {}")
    for template in ("no place", "{} and {}", 3):
        with pytest.raises(ArgumentError, match=r"with \{\} once"):
            compare(template=template)
    with pytest.raises(ArgumentError, match="layer 9 does not exist"):
        compare(layers=[9])
    with pytest.raises(ArgumentError, match="layers"):
        compare(layers=[])
    with pytest.raises(ArgumentError, match="corpus"):
        compare(corpus=[])
    with pytest.raises(ArgumentError, match="min_count: found 1"):
        compare(corpus=CORPUS, min_count=1)
    with pytest.raises(ArgumentError, match="max_count: found 2"):
        compare(corpus=CORPUS, min_count=3, max_count=2)
    with pytest.raises(ArgumentError, match="pooling"):
        compare(pooling="last")
    with pytest.raises(ArgumentError, match="pooling"):
        compare(pooling="middle", background=None)
    with pytest.raises(ArgumentError, match="Background"):
        compare(background="here")
    with pytest.raises(DomainError, match="background"):
        compare(background=capture_background(tiny("gpt2"), "The fox ran. The dog ran."))
    with pytest.raises(ArgumentError, match=r"list of \(word, word, score\)"):
        compare([("a", "b")])
    with pytest.raises(ArgumentError, match="progress"):
        compare(progress=3)
    for directions in (0, [], "8", [4, 0]):
        with pytest.raises(ArgumentError, match="directions"):
            compare(directions=directions)
    assert compare(layers=[-1, 6, 2]).variants == ("layer 6", "layer 2")


def test_more_directions_than_words_are_told(compare):
    found = compare(corpus=CORPUS, min_count=2, directions=(2, len(WORDS), 161))
    assert [e.measure for e in found.estimates if "full" in e.measure] == ["Fisher-Rao, full normals in 2 directions"]
    assert len(found.undefined) == 2
    assert f"found {len(WORDS)} words" in found.undefined[0]


def test_a_layer_where_all_occurrences_are_one_vector_is_told(compare):
    found = compare(layers=[0, 4], corpus=[c.lower() for c in CORPUS], min_count=2, ignore_case=False)
    assert sum("layer 0" in reason for reason in found.undefined) == 3
    assert all(e.chosen == ("layer 4", "layer 4") for e in found.estimates if "within" in e.measure)


def test_wordsim(minilm):
    from infogeo_adapters.treebank.similarity import compare_with_similarity, read_word_pairs

    path = os.environ.get("INFOGEO_WORD_PAIRS")
    if not path:
        pytest.skip("set INFOGEO_WORD_PAIRS to the path of EN-WS-353-ALL.txt")
    pairs = read_word_pairs(path)
    assert len(pairs) == 353
    found = compare_with_similarity(minilm, pairs, layers=[3, 6])
    assert found.estimate("cosine").spearman > 0.7


# The script behind the page


def test_the_benchmark_prints_what_the_comparison_says(tmp_path):
    import importlib.util
    import lzma

    script = Path(__file__).parents[1] / "benchmarks" / "word_similarity.py"
    if not script.exists():
        pytest.skip("benchmarks/ is not part of an installed package; run the tests in a clone")
    pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")
    spec = importlib.util.spec_from_file_location("word_similarity_benchmark", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pairs = make_pairs(20)
    found = compare_similarities(pairs, tables_for(pairs), variants=("layer 1", "layer 2", "layer 3"), resamples=20)
    lines = module.table(found)
    assert len(lines) == 5
    better = found.estimate("better")
    assert lines[3].startswith(f"| better | {better.chosen[0][-1]}")
    assert f"| {better.spearman:.3f} |" in lines[3]
    assert f"{better.difference:+.3f}" in lines[3]
    packed = tmp_path / "text.txt.xz"
    packed.write_bytes(lzma.compress("Grüße an alle".encode()))
    assert module.read_text(packed, 5) == "Grüße"
    assert module.read_text(packed, None) == "Grüße an alle"
