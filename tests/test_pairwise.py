"""All pairs and row by row: the same numbers as the double loop whatever the blocks, within the memory."""

from __future__ import annotations

import dataclasses
import threading
import tracemalloc

import family_cases
import numpy as np
import pytest
from oracles import (
    MAKERS,
    categorical_distance,
    diagonal_distance,
    make_activations,
    random_batch,
    shared_distance,
)

from infogeo import (
    MEASURES,
    Categorical,
    DiagonalGaussian,
    Gaussian,
    PointMass,
    SharedCovarianceGaussian,
    WordDistributions,
    bhattacharyya_distance,
    component_normals,
    cosine_distance,
    euclidean_distance,
    fisher_rao_distance,
    hellinger_distance,
    iter_blocks,
    jeffreys_divergence,
    jensen_shannon_distance,
    kl_divergence,
    paired,
    pairwise,
    point_masses,
    vector_distances,
)
from infogeo.errors import ArgumentError, DomainError, InfogeoError, ShapeError, UnsupportedFamilyError
from infogeo.families import (
    Beta,
    CenteredGaussian,
    Dirichlet,
    Gamma,
    IsotropicGaussian,
    LowRankGaussian,
    VonMisesFisher,
)
from infogeo.pairwise import available_threads

RNG = np.random.default_rng
BY_ITERATION = (Beta, Dirichlet, Gamma, Gaussian, LowRankGaussian, VonMisesFisher)
"""Families whose Fisher-Rao distance takes an iteration for each pair: fewer of them are computed."""
CASES = [
    pytest.param(m, f, id=f"{m.name}-{f.__name__}")
    for m in MEASURES.values()
    for f in m.families
    if not (m is fisher_rao_distance and f in BY_ITERATION)
]
ITERATED = [pytest.param(f, id=f.__name__) for f in BY_ITERATION if f in fisher_rao_distance.families]


def near_one(n, rng, spread):
    """Positive numbers (n, 3) about ``spread`` apart."""
    return np.exp(0.3 * rng.standard_normal(3) + 0.5 * spread * rng.standard_normal((n, 3)))


OTHERS = {
    Beta: lambda n, rng, s: Beta(*near_one(n, rng, s).T[:2]),
    Dirichlet: lambda n, rng, s: Dirichlet(near_one(n, rng, s)),
    Gamma: lambda n, rng, s: Gamma(*near_one(n, rng, s).T[:2]),
    LowRankGaussian: lambda n, rng, s: LowRankGaussian(
        s * rng.standard_normal((n, 3)),
        np.ones((3, 1)) + 0.5 * s * rng.standard_normal((n, 3, 1)),
        np.broadcast_to([1.0, 2.0, 0.5], (n, 3)),
    ),
    VonMisesFisher: lambda n, rng, s: VonMisesFisher(directions(n, rng, s), near_one(n, rng, s)[:, 0]),
}


def directions(n, rng, spread):
    """Unit vectors (n, 3) about ``spread`` apart."""
    vectors = np.array([1.0, 1.0, 0.0]) + 0.5 * spread * rng.standard_normal((n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def batch_of(family, n, rng, *, d=3, spread=1.0):
    """A batch of any family that a measure knows."""
    if family in MAKERS:
        return random_batch(family, n, rng, d=d, spread=spread)
    for case in family_cases.CASES:
        if case.family is family:
            return case.random(n, rng, spread)
    return OTHERS[family](n, rng, spread)


def double_loop(m, x) -> np.ndarray:
    values = np.array([[float(m(p, q)) for q in x] for p in x])
    assert (np.diagonal(values) < 1e-14).all()
    np.fill_diagonal(values, 0.0)  # some kernels leave rounding of a member with itself
    return values


def least_memory(m, x) -> float:
    """The least memory that pairwise takes, as it says in its error."""
    with pytest.raises(ArgumentError) as caught:
        pairwise(m, x, memory=1)
    return float(str(caught.value).split("at least ")[1].split()[0])


@pytest.mark.parametrize(("m", "family"), CASES)
@pytest.mark.parametrize("spread", [1.0, 1e-5])
def test_equal_to_the_double_loop_for_every_size_of_block(m, family, spread):
    n = 7 if family in MAKERS else 4  # of the others none has blocks of its own, and some take milliseconds a pair
    x = batch_of(family, n, RNG(0), spread=spread)
    expected, least = double_loop(m, x), least_memory(m, x)
    for pairs in (1, 5, 10_000):
        values = pairwise(m, x, memory=pairs * least, threads=1)
        np.testing.assert_allclose(values, expected, rtol=1e-9 if spread == 1.0 else 1e-7)
        assert not np.diagonal(values).any()
        if m.symmetric:
            np.testing.assert_array_equal(values, values.T)
        rows = list(iter_blocks(m, x, memory=pairs * least))
        assert [i for at, _ in rows for i in range(n)[at]] == list(range(n))
        np.testing.assert_allclose(np.concatenate([block for _, block in rows]), values, rtol=1e-7)


@pytest.mark.parametrize(("m", "family"), CASES)
def test_a_batch_of_one(m, family):
    assert pairwise(m, batch_of(family, 1, RNG(0))).tolist() == [[0.0]]


@pytest.mark.parametrize("family", ITERATED)
def test_families_that_take_an_iteration(family):
    x = batch_of(family, 4, RNG(0), spread=0.3)
    expected = double_loop(fisher_rao_distance, x)
    for memory in (least_memory(fisher_rao_distance, x), 256e6):
        values = pairwise(fisher_rao_distance, x, memory=memory)
        np.testing.assert_allclose(values, expected, rtol=1e-7)
        np.testing.assert_array_equal(values, values.T)
    np.testing.assert_allclose(paired(fisher_rao_distance, x[:2], x[2:]), [expected[0, 2], expected[1, 3]], rtol=1e-7)


def test_all_families_of_all_measures_take_part():
    for m in MEASURES.values():
        for family in m.families:
            assert len(batch_of(family, 2, RNG(0))) == 2


def copies(m, family, zeros: bool) -> float:
    """Copies of the batch that pairwise may make beside its memory, as its docstring says."""
    if family is Categorical and m.name in ("kl_divergence", "jeffreys_divergence"):
        return 2 if zeros else 1
    if family is Categorical:
        return int(m.name != "total_variation_distance")
    if family is SharedCovarianceGaussian:
        return int(m.name != "bures_wasserstein_distance")
    if family is DiagonalGaussian:
        return 1.5 * (m.name == "fisher_rao_distance")
    if family is IsotropicGaussian:
        return int(m.registration(family).block is not None)
    return int(family is PointMass)


def with_zeros(x: Categorical) -> Categorical:
    """The same distributions without the first outcomes of the odd members, the last ones of the even members."""
    log_probs = np.array(x.log_probs)
    log_probs[::2, -3:] = log_probs[1::2, :3] = -np.inf
    return Categorical.from_logits(log_probs)


KINDS = [  # only blocks are computed again where members are near, and only categoricals have probabilities of zero
    pytest.param(m, f, kind, id=f"{m.name}-{f.__name__}-{kind}")
    for m, f in (case.values for case in CASES)
    for kind in ("apart", "near", "zeros")
    if kind == "apart" or (m.registration(f).block if kind == "near" else f is Categorical)
]


@pytest.mark.parametrize(("m", "family", "kind"), KINDS)
@pytest.mark.parametrize(("n", "d"), [(100, 30), (40, 700)], ids=["many", "wide"])
def test_temporaries_keep_to_the_memory(m, family, kind, n, d):
    """The wide case has a batch larger than result and memory, so that copies of it show."""
    if family not in MAKERS:  # no dimension to choose
        n = n // 4
    if family is LowRankGaussian:  # a millisecond a pair
        n = n // 4
    elif m.registration(family).block is None:
        n = n // 2
    if family in (Gaussian, CenteredGaussian):
        n, d = (40, 8) if n > d else (12, 40)
    elif family is SharedCovarianceGaussian:
        d = min(d, 100)
    x = batch_of(family, n, RNG(0), d=d)
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
    allowed = memory + values.nbytes + (copies(m, family, kind == "zeros") + 0.1) * batch + 60_000
    if family is VonMisesFisher:  # its rounds have a size of their own
        allowed += 4.5e6
    assert values.nbytes < peak < allowed


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


# ------------------------------------------------------------------------------- blocks that are faster than the pairs


@pytest.mark.parametrize("d", [1, 3, 40])
@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-4, 1e-3, 1e-2])
def test_diagonal_normals_keep_the_digits_of_near_neighbors(d, scale):
    """Against 60 digits: near pairs among far ones, and a batch with means far from zero and deviations far apart."""
    rng = RNG(5)
    mean, var = rng.standard_normal((4, d)), np.exp(rng.standard_normal((4, d)))
    for shift, factor in ((0.0, 1.0), (1e6, 1e-4), (0.0, np.array([[1e-12], [1.0], [1.0], [1e12]]))):
        near = mean + scale * np.sqrt(var * factor) * rng.standard_normal((4, d))
        moved = var * np.exp(scale * rng.standard_normal((4, d)))
        factors = np.tile(factor, (8 // np.size(factor), 1))
        x = DiagonalGaussian(np.concatenate([mean, near]) + shift, np.concatenate([var, moved]) * factors)
        values = pairwise(fisher_rao_distance, x)
        for i, j in ((0, 4), (1, 5), (3, 7), (0, 1), (2, 3), (0, 3), (5, 6)):
            assert values[i, j] == pytest.approx(float(diagonal_distance(x[i], x[j])), rel=1e-10)


def test_coordinates_in_which_all_members_agree_change_nothing():
    x = random_batch(DiagonalGaussian, 20, RNG(6), d=3)
    same = np.full((20, 2), 0.7)
    wider = DiagonalGaussian(np.concatenate([x.mean, same], axis=1), np.concatenate([x.var, same], axis=1))
    np.testing.assert_allclose(
        pairwise(fisher_rao_distance, wider), pairwise(fisher_rao_distance, x), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("magnitude", [1e-150, 1e150])
def test_normals_beyond_the_range_of_squares(magnitude):
    rng = RNG(7)
    x = DiagonalGaussian(magnitude * rng.standard_normal((6, 2)), magnitude**2 * np.exp(rng.standard_normal((6, 2))))
    y = DiagonalGaussian(x.mean / magnitude, x.var / magnitude**2)
    np.testing.assert_allclose(pairwise(fisher_rao_distance, x), pairwise(fisher_rao_distance, y), rtol=1e-12)
    wide = DiagonalGaussian([[0.0], [1e300], [-1e300], [1.0]], [[1.0], [1e-300], [1e300], [1e300]])
    np.testing.assert_allclose(
        pairwise(fisher_rao_distance, wide), double_loop(fisher_rao_distance, wide), rtol=1e-12
    )


@pytest.mark.parametrize("m", [jensen_shannon_distance, bhattacharyya_distance, hellinger_distance])
@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e-2, 1.0, 30.0])
def test_categorical_blocks_equal_the_pairs(m, scale):
    """Near ones, far ones (disjoint up to 1e-26) and impossible outcomes in one batch."""
    rng = RNG(8)
    logits = rng.standard_normal(300) + scale * rng.standard_normal((30, 300))
    x = with_zeros(Categorical.from_logits(logits))
    np.testing.assert_allclose(pairwise(m, x), m(x[:, None], x[None]), rtol=1e-10, atol=1e-300)


# ------------------------------------------------------------------------------------- threads, progress, files, resume


def larger_batch(family, n=400):
    return random_batch(family, n, RNG(9), d=4)


BLOCKED = [
    (fisher_rao_distance, DiagonalGaussian),
    (fisher_rao_distance, Categorical),
    (kl_divergence, SharedCovarianceGaussian),
    (kl_divergence, DiagonalGaussian),
    (cosine_distance, PointMass),
]


@pytest.mark.parametrize(("m", "family"), BLOCKED)
def test_threads_give_identical_results(m, family):
    x = larger_batch(family)
    blocks = {"memory": 8e5}  # more than one block for each thread
    one = pairwise(m, x, threads=1, memory=2e5)
    for threads in (2, 3, None):
        np.testing.assert_allclose(pairwise(m, x, threads=threads, **blocks), one, rtol=1e-12)
    np.testing.assert_array_equal(pairwise(m, x, threads=2, **blocks), pairwise(m, x, threads=2, **blocks))


def test_threads_compute_at_the_same_time_in_the_context_of_the_caller(monkeypatch):
    seen, both = set(), threading.Barrier(2, timeout=30)
    registration = kl_divergence.registration(DiagonalGaussian)

    def kernel(p, q):
        if threading.get_ident() not in seen:
            seen.add(threading.get_ident())
            both.wait()
        assert np.geterr()["over"] == "raise"
        return registration.kernel(p, q)

    changed = type(registration)(kernel, registration.metric, registration.scratch, registration.block)
    monkeypatch.setitem(kl_divergence._registered, DiagonalGaussian, changed)
    with np.errstate(over="raise"):
        pairwise(kl_divergence, larger_batch(DiagonalGaussian, 60), threads=2, memory=5e5)
    assert len(seen) == 2
    assert threading.get_ident() not in seen


def test_available_threads_follow_the_environment(monkeypatch):
    cores = available_threads_without_limit(monkeypatch)
    for said, expected in (("1", 1), ("4,2", min(4, cores)), ("0", 1), ("many", cores), ("", cores)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert available_threads() == expected


def available_threads_without_limit(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cores = available_threads()
    assert cores >= 1
    return cores


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("m", "family"), BLOCKED)
def test_progress_counts_rows_that_are_final(m, family, threads):
    x = larger_batch(family)
    out, told = np.full((400, 400), np.nan), []

    def progress(done, total):
        assert total == 400
        assert not np.isnan(out[:done]).any()
        if m.symmetric:
            assert not np.isnan(out[:, :done]).any()
        told.append(done)

    pairwise(m, x, out=out, progress=progress, threads=threads, memory=3e5)
    assert told == sorted(set(told))
    assert told[-1] == 400
    assert len(told) > 2
    words = component_normals(make_activations(["the", "cat", "sat"]), 1)
    told.clear()
    pairwise(fisher_rao_distance, words, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (3, 3)


@pytest.mark.parametrize(("m", "family"), BLOCKED)
def test_out_is_filled_in_place(m, family, tmp_path):
    x = larger_batch(family)
    expected = pairwise(m, x)
    on_disk = np.lib.format.open_memmap(tmp_path / "values.npy", "w+", dtype=np.float64, shape=(400, 400))
    assert pairwise(m, x, out=on_disk, memory=3e5) is on_disk
    on_disk.flush()
    np.testing.assert_allclose(np.load(tmp_path / "values.npy"), expected, rtol=1e-10)
    single = np.empty((400, 400), dtype=np.float32)
    pairwise(m, x, out=single, memory=3e5)
    np.testing.assert_allclose(single, expected, rtol=1e-6)
    part = np.zeros((800, 500))
    pairwise(m, x, out=part[::2, 50:450])
    np.testing.assert_allclose(part[::2, 50:450], expected, rtol=1e-10)
    assert not part[1::2].any()
    assert not part[:, :50].any()


def test_a_matrix_on_disk_is_never_held(tmp_path):
    x = random_batch(PointMass, 1500, RNG(0))
    out = np.lib.format.open_memmap(tmp_path / "values.npy", "w+", dtype=np.float64, shape=(1500, 1500))
    pairwise(euclidean_distance, x[:2])
    tracemalloc.start()
    pairwise(euclidean_distance, x, out=out, memory=1e6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6 < out.nbytes


class PowerCutError(Exception):
    pass


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("m", "family"), BLOCKED)
def test_interrupted_work_is_taken_up_where_it_stopped(m, family, threads):
    x = larger_batch(family)
    out, told = np.full((400, 400), np.nan), []

    def cut(done, total):
        told.append(done)
        if done > 150:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        pairwise(m, x, out=out, progress=cut, threads=threads, memory=3e5)
    start = told[-1]
    assert 150 < start < 400
    before = out[:start].copy()
    out[start:, start:] = np.nan  # whatever came later is lost
    pairwise(m, x, out=out, start=start, threads=threads, memory=3e5)
    np.testing.assert_array_equal(out[:start], before)
    np.testing.assert_allclose(out, pairwise(m, x), rtol=1e-10)
    rows = list(iter_blocks(m, x, start=start, memory=3e5))
    assert rows[0][0].start == start
    np.testing.assert_allclose(np.concatenate([values for _, values in rows]), out[start:], rtol=1e-10)


def test_an_error_in_a_thread_ends_the_work(monkeypatch):
    registration = kl_divergence.registration(DiagonalGaussian)

    def kernel(p, q):
        raise ZeroDivisionError("broken")

    changed = type(registration)(kernel, registration.metric, registration.scratch, registration.block)
    monkeypatch.setitem(kl_divergence._registered, DiagonalGaussian, changed)
    with pytest.raises(ZeroDivisionError, match="broken"):
        pairwise(kl_divergence, larger_batch(DiagonalGaussian, 60), threads=2, memory=5e5)


def test_bad_arguments_of_long_work_are_refused():
    x = random_batch(PointMass, 4, RNG(0))
    locked = np.empty((4, 4))
    locked.setflags(write=False)
    for out, said in (
        ([[0.0]], "found list"),
        (np.empty((4, 3)), r"found shape \(4, 3\)"),
        (np.empty((4, 4), dtype=int), r"found shape \(4, 4\) and dtype int64"),
        (locked, "found a read-only"),
    ):
        with pytest.raises(ArgumentError, match=f"out: {said}"):
            pairwise(euclidean_distance, x, out=out)
    for start in (-1, 5, 100):
        with pytest.raises(ArgumentError, match=f"start: found {start}"):
            pairwise(euclidean_distance, x, out=np.empty((4, 4)), start=start)
        with pytest.raises(ArgumentError, match=f"start: found {start}"):
            list(iter_blocks(euclidean_distance, x, start=start))
    with pytest.raises(ArgumentError, match="start: found 2 without out"):
        pairwise(euclidean_distance, x, start=2)
    with pytest.raises(ArgumentError, match="threads: found 0"):
        pairwise(euclidean_distance, x, threads=0)
    words = component_normals(make_activations(["the", "cat", "sat"]), 1)
    with pytest.raises(ArgumentError, match="DistanceMatrix"):
        pairwise(fisher_rao_distance, words, out=np.empty((3, 3)))


# ------------------------------------------------------------------------------------------------------------ torch


def as_tensors(x, **options):
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    values = {f.name: getattr(x, f.name) for f in dataclasses.fields(x) if f.init}
    arrays = {name: torch.tensor(v, **options) for name, v in values.items() if isinstance(v, np.ndarray)}
    return type(x)(**{**values, **arrays})


TENSORS = [case for case in CASES if case.values[1] in MAKERS]


@pytest.mark.parametrize(("m", "family"), TENSORS)
@pytest.mark.parametrize("spread", [1.0, 1e-5])
def test_tensors_give_a_tensor_of_the_same_values(m, family, spread):
    x = batch_of(family, 7, RNG(0), spread=spread)
    try:
        y = as_tensors(x)
        m(y[0], y[1])
    except InfogeoError as error:
        pytest.skip(f"this measure computes with NumPy only: {error}")
    expected = pairwise(m, x)
    for memory in (4 * least_memory(m, x), 256e6):
        values = pairwise(m, y, memory=memory)
        assert type(values).__module__ == "torch"
        np.testing.assert_allclose(values.numpy(), expected, rtol=1e-9 if spread == 1.0 else 1e-7)
        rows = [block.numpy() for _, block in iter_blocks(m, y, memory=memory)]
        np.testing.assert_allclose(np.concatenate(rows), expected, rtol=1e-9 if spread == 1.0 else 1e-7)
    np.testing.assert_allclose(paired(m, y[:3], y[3:6], memory=1.0).numpy(), expected[range(3), range(3, 6)], rtol=1e-7)


def test_gradients_are_refused_for_all_pairs_and_carried_row_by_row():
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    mean = torch.tensor([[0.0], [1.0], [3.0], [4.0]], dtype=torch.float64, requires_grad=True)
    x = DiagonalGaussian(mean, torch.ones_like(mean))
    for call in (lambda: pairwise(fisher_rao_distance, x), lambda: list(iter_blocks(fisher_rao_distance, x))):
        with pytest.raises(ArgumentError, match=r"fisher_rao_distance\(x\[:, None\], x\[None\]\)"):
            call()
    paired(fisher_rao_distance, x[:2], x[2:], memory=1.0).sum().backward()
    assert (mean.grad != 0).all()


def test_out_is_for_numpy():
    x = as_tensors(random_batch(PointMass, 4, RNG(0)))
    with pytest.raises(ArgumentError, match="made of tensors"):
        pairwise(euclidean_distance, x, out=np.empty((4, 4)))


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
def test_paired_is_the_measure_row_by_row(m, family):
    x = batch_of(family, 10, RNG(4))
    expected = [float(m(x[i], x[5 + i])) for i in range(5)]
    for memory in (1.0, 5e3, 256e6):
        values = paired(m, x[:5], x[5:], memory=memory)
        assert values.shape == (5,)
        np.testing.assert_allclose(values, expected, rtol=1e-12)
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
    x = batch_of(family, 3, RNG(0))
    for memory in (0.0, -1.0, np.nan, 10.0):
        with pytest.raises(ArgumentError, match=r"memory: found (NaN|.* for one pair)"):
            pairwise(m, x, memory=memory)


def test_batches_that_are_not_lists_are_refused():
    x = random_batch(PointMass, 4, RNG(0))
    for bad in (x[0], x[[[0, 1], [2, 3]]]):
        with pytest.raises(ShapeError, match=r"wanted \(n,\)"):
            pairwise(euclidean_distance, bad)
    with pytest.raises(ShapeError, match=r"batch shapes \(4,\) and \(3,\), wanted equal ones"):
        paired(euclidean_distance, x, x[:3])


def test_unsupported_families_are_refused():
    with pytest.raises(UnsupportedFamilyError, match="euclidean_distance"):
        pairwise(fisher_rao_distance, random_batch(PointMass, 2, RNG(0)))
    with pytest.raises(DomainError, match="vector 1 of the batch is zero"):
        pairwise(cosine_distance, PointMass([[1.0], [0.0]]))
