"""All pairs and row by row: the same numbers as the double loop whatever the blocks, within the memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from oracles import categorical_distance, make_activations, random_batch, shared_distance

from infogeo import (
    MEASURES,
    Categorical,
    DiagonalGaussian,
    Gaussian,
    PointMass,
    SharedCovarianceGaussian,
    WordDistributions,
    component_normals,
    cosine_distance,
    euclidean_distance,
    fisher_rao_distance,
    iter_blocks,
    jeffreys_divergence,
    kl_divergence,
    paired,
    pairwise,
    point_masses,
    vector_distances,
)
from infogeo.errors import ArgumentError, DomainError, ShapeError, UnsupportedFamilyError

RNG = np.random.default_rng
CASES = [pytest.param(m, f, id=f"{m.name}-{f.__name__}") for m in MEASURES.values() for f in m.families]


def double_loop(m, x) -> np.ndarray:
    return np.array([[float(m(p, q)) for q in x] for p in x])


def least_memory(m, x) -> float:
    """The least memory that pairwise takes, as it says in its error."""
    with pytest.raises(ArgumentError) as caught:
        pairwise(m, x, memory=1)
    return float(str(caught.value).split("at least ")[1].split()[0])


@pytest.mark.parametrize(("m", "family"), CASES)
@pytest.mark.parametrize("pairs", [1, 3, 64, 10_000])
@pytest.mark.parametrize("spread", [1.0, 1e-5])
def test_equal_to_the_double_loop_for_every_size_of_block(m, family, pairs, spread):
    x = random_batch(family, 11, RNG(0), spread=spread)
    memory = least_memory(m, x) * pairs
    expected = double_loop(m, x)
    values = pairwise(m, x, memory=memory)
    np.testing.assert_allclose(values, expected, rtol=1e-9 if spread == 1.0 else 1e-7)
    assert not np.diagonal(values).any()
    if m.symmetric:
        np.testing.assert_array_equal(values, values.T)
    rows = [(at, block) for at, block in iter_blocks(m, x, memory=memory)]
    assert [i for at, _ in rows for i in range(11)[at]] == list(range(11))
    np.testing.assert_allclose(np.concatenate([block for _, block in rows]), values, rtol=1e-7)


@pytest.mark.parametrize(("m", "family"), CASES)
def test_a_batch_of_one(m, family):
    assert pairwise(m, random_batch(family, 1, RNG(0))).tolist() == [[0.0]]


def copies(m, family, zeros: bool) -> int:
    """Copies of the batch that pairwise may make beside its memory, as its docstring says."""
    if family is Categorical and m.name in ("kl_divergence", "jeffreys_divergence"):
        return 2 if zeros else 1
    if family is Categorical:
        return int(m.name in ("fisher_rao_distance", "hellinger_distance"))
    if family is SharedCovarianceGaussian:
        return int(m.name != "bures_wasserstein_distance")
    return int(family is PointMass)


def with_zeros(x: Categorical) -> Categorical:
    """The same distributions without the first outcomes of the odd members, the last ones of the even members."""
    log_probs = np.array(x.log_probs)
    log_probs[::2, -3:] = log_probs[1::2, :3] = -np.inf
    return Categorical.from_logits(log_probs)


KINDS = [  # only categoricals have probabilities of zero
    pytest.param(m, f, kind, id=f"{m.name}-{f.__name__}-{kind}")
    for m in MEASURES.values()
    for f in m.families
    for kind in (("apart", "near", "zeros") if f is Categorical else ("apart", "near"))
]


@pytest.mark.parametrize(("m", "family", "kind"), KINDS)
@pytest.mark.parametrize(("n", "d"), [(200, 30), (60, 700)], ids=["many", "wide"])
def test_temporaries_keep_to_the_memory(m, family, kind, n, d):
    """The wide case has a batch larger than result and memory, so that copies of it show."""
    if family is Gaussian:
        n, d = (60, 8) if n > d else (20, 40)
    elif family is SharedCovarianceGaussian:
        d = min(d, 100)
    x = random_batch(family, n, RNG(0), d=d)
    if kind == "near":  # the worst case of a matrix product: every entry is computed again
        x = x[np.zeros(n, dtype=int)]
    elif kind == "zeros":
        x = with_zeros(x)
    memory = max(4 * least_memory(m, x), 1e5)
    pairwise(m, x, memory=memory)  # imports of scipy are not counted
    tracemalloc.start()
    values = pairwise(m, x, memory=memory)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    batch = 8 * n * x.member_size
    assert values.nbytes < peak < memory + values.nbytes + (copies(m, family, kind == "zeros") + 0.1) * batch + 50_000


def test_the_measured_case_of_wide_distributions():
    """Once 30.9 MB where 14.6 MB were claimed: 9.6 MB of batch, 1.3 MB of result, 5 MB of memory."""
    x = Categorical.from_logits(RNG(0).standard_normal((400, 3000)))
    for m in (kl_divergence, jeffreys_divergence, fisher_rao_distance):
        pairwise(m, x[:2])
        tracemalloc.start()
        pairwise(m, x, memory=5e6)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16.1e6, m.name


def test_zeros_give_the_same_infinities_for_every_size_of_block():
    x = with_zeros(random_batch(Categorical, 11, RNG(0), d=40))
    for m in (kl_divergence, jeffreys_divergence):
        expected = double_loop(m, x)
        assert np.isinf(expected).any()
        assert np.isfinite(expected[~np.eye(11, dtype=bool)]).any()
        least = least_memory(m, x)
        for pairs in (1, 2, 5, 1000):
            np.testing.assert_allclose(pairwise(m, x, memory=pairs * least), expected, rtol=1e-9)


def test_blocks_of_rows_never_hold_the_matrix():
    x = random_batch(PointMass, 2000, RNG(0))
    tracemalloc.start()
    count = sum(len(values) for _, values in iter_blocks(euclidean_distance, x, memory=1e6))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 2000
    assert peak < 3e6 < 8 * 2000**2


@pytest.mark.parametrize("scale", [1e-8, 1e-6, 1e-5, 1e-4, 1e-2])
def test_matrix_products_keep_the_digits_of_near_neighbors(scale):
    """Pairs a step of ``scale`` apart in a batch of far ones, and a batch of nothing but near ones."""
    rng = RNG(1)
    logits = 2 * rng.standard_normal((4, 50))
    near = logits + scale * rng.standard_normal((4, 50))
    for x in (Categorical.from_logits(np.concatenate([logits, near])),
              Categorical.from_logits(logits[0] + scale * rng.standard_normal((8, 50)))):  # fmt: skip
        values = pairwise(fisher_rao_distance, x)
        for i, j in ((0, 4), (1, 5), (2, 7), (0, 1)):
            assert values[i, j] == pytest.approx(float(categorical_distance(x[i], x[j])), rel=1e-10)
    cov = random_batch(SharedCovarianceGaussian, 1, rng, d=6).cov
    mean = 10 + rng.standard_normal((4, 6))
    for batch in (np.concatenate([mean, mean + scale * rng.standard_normal((4, 6))]),
                  mean[0] + scale * rng.standard_normal((8, 6))):  # fmt: skip
        y = SharedCovarianceGaussian(batch, cov)
        values = pairwise(fisher_rao_distance, y)
        for i, j in ((0, 4), (1, 5), (2, 7), (0, 1)):
            assert values[i, j] == pytest.approx(float(shared_distance(y[i], y[j])), rel=1e-10)


def test_repeated_members_are_at_distance_zero():
    for family in (Categorical, SharedCovarianceGaussian, PointMass, DiagonalGaussian):
        x = random_batch(family, 5, RNG(2))[[0, 1, 2, 0, 3, 1, 4]]
        for m in (m for m in MEASURES.values() if family in m.families):
            values = pairwise(m, x)
            assert values[0, 3] == values[3, 0] == values[1, 5] == 0.0, m.name
            assert (values == 0).sum() == 7 + 4, m.name


def test_infinite_divergences_of_a_bare_family_are_values():
    x = Categorical.from_probs([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.0, 0.0, 1.0]])
    inf = np.inf
    np.testing.assert_allclose(
        pairwise(kl_divergence, x),
        [[0, np.log(2), inf], [inf, 0, inf], [inf, np.log(2), 0]],
        rtol=1e-12,
    )
    np.testing.assert_array_equal(np.isinf(pairwise(jeffreys_divergence, x)), ~np.eye(3, dtype=bool))


def test_the_rows_are_the_first_argument():
    x = random_batch(DiagonalGaussian, 3, RNG(3))
    values = pairwise(kl_divergence, x)
    assert values[0, 1] == pytest.approx(float(kl_divergence(x[0], x[1])))
    assert values[0, 1] != pytest.approx(values[1, 0])


# ------------------------------------------------------------------------------------------------------------ words


def test_words_give_a_distance_matrix_that_says_what_it_is():
    activations = make_activations(["the", "cat", "sat"])
    words = component_normals(activations, 1)
    matrix = pairwise(fisher_rao_distance, words)
    assert (matrix.words, matrix.measure, matrix.symmetric, matrix.metric) == (
        ("the", "cat", "sat"), "fisher_rao_distance", True, True,
    )  # fmt: skip
    assert (matrix.level, matrix.layer, matrix.construction) == ("occurrence", 1, "component_normals")
    assert matrix.source is words.source
    np.testing.assert_array_equal(matrix.values, pairwise(fisher_rao_distance, words.distribution))
    other = pairwise(kl_divergence, words)
    assert (other.symmetric, other.metric) == (False, False)


def test_level_of_types_is_kept():
    words = WordDistributions(
        words=("a", "b"), distribution=PointMass([[0.0], [1.0]]), observations=np.array([2, 3]), level="type", layer=4,
        construction="by hand", source=make_activations(["a"]).source,
    )  # fmt: skip
    matrix = pairwise(euclidean_distance, words)
    assert (matrix.level, matrix.layer, matrix.construction) == ("type", 4, "by hand")


def test_infinite_divergence_between_words_is_refused_by_name():
    words = WordDistributions(
        words=("here", "there"), distribution=Categorical.from_probs([[1.0, 0.0], [0.0, 1.0]]),
        observations=np.ones(2, dtype=np.int64), level="occurrence", layer=0, construction="by hand",
        source=make_activations(["a"]).source,
    )  # fmt: skip
    with pytest.raises(DomainError, match="kl_divergence of 'here' and 'there' is inf"):
        pairwise(kl_divergence, words)


@pytest.mark.parametrize("m", [cosine_distance, euclidean_distance])
def test_vector_distances_are_those_of_the_pooled_vectors(m):
    activations = make_activations(["the", "cat", "sat"], tokens_per_word=[1, 2, 3])
    matrix = vector_distances(m, activations, -1)
    vectors = activations.word_vectors(2)
    for i in range(3):
        for j in range(3):
            u, v = vectors[i], vectors[j]
            cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
            expected = 1 - cosine if m is cosine_distance else np.linalg.norm(u - v)
            assert matrix.values[i, j] == pytest.approx(expected, abs=1e-12)
    assert (matrix.layer, matrix.construction, matrix.metric) == (2, "point_masses", m is euclidean_distance)
    last = vector_distances(m, activations, -1, pooling="last")
    assert not np.allclose(last.values, matrix.values)


# ----------------------------------------------------------------------------------------------------- row by row


@pytest.mark.parametrize(("m", "family"), CASES)
@pytest.mark.parametrize("memory", [1.0, 5e3, 256e6])
def test_paired_is_the_measure_row_by_row(m, family, memory):
    x = random_batch(family, 10, RNG(4))
    values = paired(m, x[:5], x[5:], memory=memory)
    assert values.shape == (5,)
    np.testing.assert_allclose(values, [float(m(x[i], x[5 + i])) for i in range(5)], rtol=1e-12)
    grid = paired(m, x[:4][np.arange(4).reshape(2, 2)], x[4:8][np.arange(4).reshape(2, 2)], memory=memory)
    assert grid.shape == (2, 2)
    assert paired(m, x[0], x[1]).shape == ()


def test_paired_takes_the_same_words_at_two_layers():
    activations = make_activations(["the", "cat", "sat"])
    before, after = (point_masses(activations, layer) for layer in (0, 2))
    expected = np.linalg.norm(activations.word_vectors(0) - activations.word_vectors(2), axis=1)
    np.testing.assert_allclose(paired(euclidean_distance, before, after), expected)
    with pytest.raises(ArgumentError, match="different words"):
        paired(euclidean_distance, before, point_masses(make_activations(["a", "cat", "sat"]), 0))


# ------------------------------------------------------------------------------------------------------------ guards


def test_names_of_measures_are_refused_with_a_hint():
    x = random_batch(PointMass, 2, RNG(0))
    for call in (lambda: pairwise("cosine", x), lambda: paired("cosine", x, x), lambda: list(iter_blocks("cosine", x))):
        with pytest.raises(ArgumentError, match=r"found 'cosine' as the measure.*MEASURES\["):
            call()


@pytest.mark.parametrize(("m", "family"), CASES)
def test_memory_for_less_than_one_pair_is_refused(m, family):
    x = random_batch(family, 3, RNG(0))
    for memory in (0.0, -1.0, np.nan, 10.0):
        with pytest.raises(ArgumentError, match=r"memory: found .* for one pair"):
            pairwise(m, x, memory=memory)


def test_batches_that_are_not_lists_are_refused():
    x = random_batch(PointMass, 4, RNG(0))
    for bad in (x[0], x[[[0, 1], [2, 3]]]):
        with pytest.raises(ShapeError, match=r"wanted \(n,\)"):
            pairwise(euclidean_distance, bad)
    with pytest.raises(ShapeError, match=r"batch shapes \(4,\) and \(3,\), wanted equal ones"):
        paired(euclidean_distance, x, x[:3])


def test_unsupported_families_are_refused():
    with pytest.raises(UnsupportedFamilyError, match="Calvo-Oller"):
        pairwise(fisher_rao_distance, random_batch(Gaussian, 2, RNG(0)))
    with pytest.raises(DomainError, match="vector 1 of the batch is zero"):
        pairwise(cosine_distance, PointMass([[1.0], [0.0]]))
