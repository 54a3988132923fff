"""Bad input to the geometry: every public function of a table gives an error of infogeo, or a right answer.

What must never come out is a raw error of NumPy, SciPy or torch, a NaN or (an error in this suite) a RuntimeWarning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infogeo as ig
from infogeo.errors import ArgumentError, DomainError, InfogeoError, OutputError, ShapeError, UnsupportedFamilyError

FAMILIES: dict[str, dict[str, Any]] = {
    "DiagonalGaussian": {"mean": [[0.0, 1.0], [2.0, 0.5]], "var": [[1.0, 2.0], [0.5, 3.0]]},
    "IsotropicGaussian": {"mean": [[0.0, 1.0], [2.0, 0.5]], "var": [1.0, 2.0]},
    "LowRankGaussian": {"mean": np.eye(2, 3), "factor": [[[1.0], [0.5], [0.2]], [[0.3], [1.0], [2.0]]],
                        "diagonal": [1.0, 2.0, 3.0]},
    "CenteredGaussian": {"cov": [[[2.0, 1.0], [1.0, 2.0]], [[1.0, 0.2], [0.2, 3.0]]]},
    "SharedCovarianceGaussian": {"mean": [[0.0, 1.0], [2.0, 0.5]], "cov": [[2.0, 1.0], [1.0, 2.0]]},
    "Gaussian": {"mean": [[0.0, 1.0], [2.0, 0.5]], "cov": [[[2.0, 1.0], [1.0, 2.0]], [[1.0, 0.2], [0.2, 3.0]]]},
    "Categorical": {"log_probs": np.log([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])},
    "Multinomial": {"log_probs": np.log([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), "trials": 4},
    "Bernoulli": {"prob": [0.3, 0.8]},
    "Binomial": {"prob": [0.3, 0.8], "trials": 3},
    "Geometric": {"prob": [0.3, 0.8]},
    "Poisson": {"rate": [1.0, 4.0]},
    "Exponential": {"rate": [1.0, 4.0]},
    "LogNormal": {"mean": [0.0, 1.0], "var": [1.0, 2.0]},
    "Weibull": {"shape": [1.0, 2.0], "scale": [1.0, 3.0]},
    "InverseGaussian": {"mean": [1.0, 2.0], "shape": [1.0, 3.0]},
    "Gamma": {"shape": [1.0, 2.0], "rate": [1.0, 3.0]},
    "Beta": {"alpha": [1.0, 2.0], "beta": [1.0, 3.0]},
    "Dirichlet": {"concentration": [[1.0, 2.0, 3.0], [4.0, 1.0, 0.5]]},
    "VonMisesFisher": {"mean_direction": [[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]], "concentration": [1.0, 5.0]},
    "PointMass": {"location": [[0.0, 1.0], [2.0, 0.5]]},
}  # fmt: skip
"""A batch of two members of every family, by its parameters."""

JUNK: list[Any] = [
    None, "abc", "1.0", b"x", [], {}, {"a": 1}, set(), object, 1j, [1j], [[1.0, 2.0], [3.0]], [None], ["a"],
    float("nan"), float("inf"), -float("inf"), 10**400, np.zeros(0), np.zeros((0, 2)), np.zeros((2, 0)),
    np.array(None), np.array(["a"]), np.datetime64("2020-01-01"), np.full((1, 1, 1, 1, 1), np.nan), np.full(2, np.nan),
    np.ma.masked_array([1.0, 2.0], [0, 1]), range(0), np.array([1, "a"], dtype=object),
]  # fmt: skip
"""What no parameter, point, velocity or batch can be."""

SCALES = (1e-320, 1e-300, 1e-200, 1e-160, 1e-30, 1e30, 1e160, 1e200, 1.7e308)

ONE: tuple[Callable[..., Any], ...] = (
    ig.fisher_information, ig.natural_parameters, ig.expectation_parameters, ig.log_partition, ig.dual_potential,
    ig.natural_fisher_information, ig.cubic_tensor, ig.scalar_curvature,
)  # fmt: skip
"""Functions of one batch alone."""
TWO: tuple[Callable[..., Any], ...] = (
    ig.logarithm_map, ig.fisher_rao_bounds, ig.normal_geodesic, ig.geodesic_solution, ig.bregman_divergence,
)  # fmt: skip
"""Functions of two batches."""
REST: dict[str, Callable[[Any, Any, Any], Any]] = {
    "inner_product": lambda p, q, v: ig.inner_product(p, v, v),
    "exponential_map": lambda p, q, v: ig.exponential_map(p, v),
    "geodesic": lambda p, q, v: ig.geodesic(p, q, 0.5),
    "exponential_geodesic": lambda p, q, v: ig.exponential_geodesic(p, q, 0.5),
    "mixture_geodesic": lambda p, q, v: ig.mixture_geodesic(p, q, 0.5),
    "alpha_geodesic": lambda p, q, v: ig.alpha_geodesic(p, q, 0.5, alpha=0.5),
    "alpha_connection": lambda p, q, v: ig.alpha_connection(p, alpha=0.5),
    "from_natural": lambda p, q, v: ig.from_natural(p, v),
    "from_expectation": lambda p, q, v: ig.from_expectation(p, v),
    "sectional_curvature": lambda p, q, v: ig.sectional_curvature(p, v, np.where(np.arange(v.shape[-1]) == 0, 0.0, v)),
    "exponential_projection": lambda p, q, v: ig.exponential_projection(p, v[:1], [0.1]),
    "mixture_projection": lambda p, q, v: ig.mixture_projection(p, q, v[:1]),
    "pullback_metric": lambda p, q, v: ig.pullback_metric(v.T, p),
    "renyi_divergence": lambda p, q, v: ig.renyi_divergence(p, q, order=0.5),
    "alpha_divergence": lambda p, q, v: ig.alpha_divergence(p, q, alpha=0.5),
    "frechet_mean": lambda p, q, v: ig.frechet_mean(p),
    "pairwise": lambda p, q, v: ig.pairwise(ig.kl_divergence, p),
    "paired": lambda p, q, v: ig.paired(ig.kl_divergence, p, q),
    "iter_blocks": lambda p, q, v: list(ig.iter_blocks(ig.kl_divergence, p)),
}  # fmt: skip
"""The others, each as a function of two batches and an array (2, n)."""


def member(name: str) -> Any:
    return getattr(ig, name)(**FAMILIES[name])


def holds_nan(result: Any) -> bool:
    """Whether there is a NaN in an array, or in a field of a batch or a result."""
    if dataclasses.is_dataclass(result):
        return any(holds_nan(getattr(result, field.name)) for field in dataclasses.fields(result))
    return (
        isinstance(result, np.ndarray | float) and np.asarray(result).dtype.kind == "f" and bool(np.isnan(result).any())
    )


def check(call: Callable[[], Any]) -> Any:
    """The result, free of NaN, or None where infogeo refuses; anything else ends the test."""
    try:
        result = call()
    except InfogeoError:
        return None
    assert not holds_nan(result)
    return result


def ways(name: str) -> dict[str, Callable[[Any, Any, Any], Any]]:
    """Every geometry function as one of two batches and an array."""
    single = {f.__name__: (lambda p, q, v, f=f: f(p)) for f in ONE}
    double = {f.__name__: (lambda p, q, v, f=f: f(p, q)) for f in TWO}
    return {**single, **double, **REST}


def test_the_tables_hold_all_families_and_all_geometry_functions() -> None:
    families = {n for n in dir(ig) if isinstance(getattr(ig, n), type) and issubclass(getattr(ig, n), ig.Family)}
    assert families - {"Family"} == set(FAMILIES)
    modules = {"geometry", "normal_geodesics", "means", "bounds", "dual", "connections", "projections", "curvature",
               "alpha_divergences", "pairwise"}  # fmt: skip
    public = {
        n for n in dir(ig)
        if getattr(getattr(ig, n), "__module__", "").removeprefix("infogeo.") in modules
        and callable(getattr(ig, n)) and not isinstance(getattr(ig, n), type | ig.Measure)
    }  # fmt: skip
    assert public - {"renyi_measure", "alpha_measure", "vector_distances"} <= set(ways("Gaussian"))


@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_that_are_none_are_refused(name: str) -> None:
    family, valid = getattr(ig, name), FAMILIES[name]
    for parameter in valid:
        for junk in JUNK:
            with pytest.raises(InfogeoError):
                family(**{**valid, parameter: junk})


@pytest.mark.parametrize("name", FAMILIES)
def test_points_coordinates_and_arguments_of_sample_are_checked(name: str) -> None:
    p = member(name)
    for junk in [
        *JUNK,
        np.ones((5, 7)),
        np.ones(3),
        np.ones((3, 3)),
        np.ones((3, 2)),
        np.arange(3),
        np.arange(3)[:, None],
    ]:
        check(lambda junk=junk: p.log_prob(junk))
        check(lambda junk=junk: p.with_coordinates(junk))
        check(lambda junk=junk: p.join(**dict.fromkeys(FAMILIES[name], junk)))
        if name != "PointMass":  # which uses no randomness, but checks the argument all the same
            check(lambda junk=junk: p.sample(junk))
        check(lambda junk=junk: p.sample(0, shape=junk))
    with pytest.raises(ArgumentError, match="shape: found 3"):
        p.sample(0, shape=3)
    with pytest.raises(ArgumentError, match="rng: found 'abc'"):
        p.sample("abc")
    for index in ([[1.0, 2.0], [3.0]], np.ones(2, dtype=object)):
        with pytest.raises((InfogeoError, IndexError)):
            p[index]


@pytest.mark.parametrize("name", FAMILIES)
def test_log_prob_says_that_shapes_do_not_broadcast(name: str) -> None:
    if name == "PointMass":
        return
    p = member(name)
    x = p.sample(0, shape=(3,))[:, 0]  # three points, two members
    with pytest.raises(ShapeError, match="does not broadcast against the batch shape"):
        p.log_prob(x)


@pytest.mark.parametrize("way", ways("Gaussian"))
def test_what_is_no_distribution_is_refused(way: str) -> None:
    call = ways(way)[way]
    good, v = member("Gaussian"), np.ones((2, 5))
    for junk in JUNK:
        with pytest.raises(UnsupportedFamilyError if way != "pullback_metric" else InfogeoError):
            call(junk, junk, v)
    for p, q in ((member("Poisson"), good), (good, member("PointMass")), (good, None), (good, 3.0)):
        check(lambda p=p, q=q: call(p, q, v))


@pytest.mark.parametrize("measure", [*ig.MEASURES.values(), ig.renyi_measure(0.5), ig.alpha_measure(0.5)], ids=repr)
def test_measures_refuse_what_is_no_distribution(measure: Any) -> None:
    good = member("Gaussian")
    for junk in JUNK:
        for pair in ((junk, good), (good, junk), (junk, junk)):
            with pytest.raises(UnsupportedFamilyError):
                measure(*pair)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_function_of_every_family_refuses_or_answers(name: str) -> None:
    p = member(name)
    v = np.full((2, p.coordinate_size), 0.01) + 0.01 * np.eye(2, p.coordinate_size)
    for call in ways(name).values():
        check(lambda call=call: call(p, p[::-1], v))
        check(lambda call=call: call(p[0], p, v))
        check(lambda call=call: call(p, p, np.zeros((2, 3, 4))[..., :1]))
        check(lambda call=call: call(p, p, v * np.nan))


EXTREME_LEFT_OUT = {
    "fisher_rao_bounds", "normal_geodesic", "renyi_divergence", "alpha_divergence", "frechet_mean",
    "geodesic_solution", "alpha_geodesic", "exponential_projection", "mixture_projection", "pairwise", "paired",
    "iter_blocks",
}  # fmt: skip
"""Iterations, which take long there, and measures."""


SOLVED = ("Gamma", "Beta", "Dirichlet", "VonMisesFisher")
"""Families whose geodesics are solved for, which takes time."""


@pytest.mark.parametrize("name", [n for n in FAMILIES if n not in ("LowRankGaussian", "PointMass")])
def test_extreme_scales_give_an_error_or_finite_numbers(name: str) -> None:
    family, valid, good = getattr(ig, name), FAMILIES[name], member(name)
    v = np.ones((2, good.coordinate_size))
    calls = {n: call for n, call in ways(name).items() if n not in EXTREME_LEFT_OUT}
    batches = []
    scales = SCALES[::4] if name in SOLVED else SCALES
    for parameter, value in valid.items():
        for scale in scales if parameter != "trials" else ():
            with np.errstate(all="ignore"):
                scaled = np.asarray(value) * scale
            batches.append(check(lambda parameter=parameter, scaled=scaled: family(**{**valid, parameter: scaled})))
    for p in filter(None, batches):
        for call in calls.values():
            check(lambda call=call, p=p: call(p, good, v))
        check(p.entropy)
        check(lambda p=p: p.log_prob(p.sample(0)))
    for scale in scales:
        for call in calls.values():
            with np.errstate(under="ignore"):
                check(lambda call=call, scale=scale: call(good, good[::-1], v * scale))


def test_out_of_range_says_so() -> None:
    far = ig.DiagonalGaussian([1e200], [1.0])
    for call in (ig.expectation_parameters, ig.log_partition, ig.natural_fisher_information, ig.cubic_tensor):
        with pytest.raises(DomainError, match=f"{call.__name__}: a number on the way .* out of the range of float64"):
            call(far)
    with pytest.raises(DomainError, match="range of float64"):
        ig.exponential_map(member("CenteredGaussian"), np.full((2, 3), 1e158))
    assert ig.fisher_information(far).tolist() == [[1.0, 0.0], [0.0, 0.5]]  # the mean does not matter to it


NUMBERS = {
    "tolerance": lambda x: ig.normal_geodesic(member("Gaussian")[0], member("Gaussian")[1], tol=x),
    "tol": lambda x: ig.frechet_mean(member("Gaussian"), tol=x),
    "tol of a solution": lambda x: ig.geodesic_solution(member("Gamma")[0], member("Gamma")[1], tol=x),
    "tolerance of a projection": lambda x: ig.exponential_projection(member("Poisson"), [[1.0]], [2.0], tol=x),
    "memory": lambda x: ig.pairwise(ig.kl_divergence, member("Gaussian"), memory=x),
    "memory of blocks": lambda x: list(ig.iter_blocks(ig.kl_divergence, member("Gaussian"), memory=x)),
    "memory of pairs": lambda x: ig.paired(ig.kl_divergence, member("Gaussian"), member("Gaussian"), memory=x),
    "memory of softmax": lambda x: ig.softmax_fisher_information([0.0, 1.0], memory=x),
    "order": lambda x: ig.renyi_measure(x),
    "alpha": lambda x: ig.alpha_measure(x),
    "alpha of a connection": lambda x: ig.alpha_connection(member("Poisson"), alpha=x),
    "axis": lambda x: ig.shannon_entropy([0.5, 0.5], axis=x),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_options_that_are_no_numbers_are_refused(name: str) -> None:
    accepted = [x for x in JUNK if check(lambda x=x: NUMBERS[name](x)) is not None]
    assert all(isinstance(x, float) and np.isinf(x) for x in accepted)  # an infinite order, or unlimited memory


def test_velocities_and_times_are_checked() -> None:
    for name in ("DiagonalGaussian", "Gaussian", "Categorical", "Gamma", "VonMisesFisher"):
        p = member(name)
        for junk in JUNK:
            for call in (
                lambda x, p=p: ig.exponential_map(p, x),
                lambda x, p=p: ig.inner_product(p, x, x),
                lambda x, p=p: ig.geodesic(p, p[::-1], x),
                lambda x, p=p: ig.exponential_geodesic(p, p[::-1], x),
                lambda x, p=p: ig.pullback_metric(x, p),
                lambda x, p=p: ig.from_natural(p, x),
                lambda x, p=p: ig.from_expectation(p, x),
            ):
                with pytest.raises(InfogeoError):
                    call(junk)


def test_normal_geodesic_names_the_family_that_it_wants() -> None:
    p = member("DiagonalGaussian")
    with pytest.raises(
        UnsupportedFamilyError, match=r"of Gaussian or LowRankGaussian, found DiagonalGaussian; to_full\(\)"
    ):
        ig.normal_geodesic(p, p)
    assert ig.normal_geodesic(p.to_full(), p.to_full()[::-1]).converged.all()


def test_a_mask_is_not_ignored() -> None:
    masked = np.ma.masked_array([1.0, 2.0], [False, True])
    with pytest.raises(DomainError, match="masked entries"):
        ig.Poisson(masked)
    assert ig.Poisson(np.ma.masked_array([1.0, 2.0], [False, False])).rate.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("name", FAMILIES)
def test_tensors_of_a_kind_that_holds_no_numbers(name: str) -> None:
    torch = pytest.importorskip("torch")
    valid = FAMILIES[name]
    bad = [torch.ones(2, device="meta"), torch.ones(2).to_sparse(), torch.ones(2, dtype=torch.complex64)]
    for parameter in valid:
        for tensor in bad:
            with pytest.raises(InfogeoError):
                getattr(ig, name)(**{**valid, parameter: tensor})
    for tensor in bad:
        for call in (ig.pullback_metric, ig.inner_product):
            with pytest.raises(InfogeoError):
                call(*((tensor, member(name)) if call is ig.pullback_metric else (member(name), tensor, tensor)))


def test_nothing_is_left_to_do_at_the_last_row() -> None:
    x = member("Gaussian")
    done = ig.pairwise(ig.fisher_rao_distance, x)
    reached: list[int] = []
    ig.pairwise(ig.fisher_rao_distance, x, out=done.copy(), progress=lambda rows, total: reached.append(rows))
    out = done.copy()
    assert ig.pairwise(ig.fisher_rao_distance, x, out=out, start=reached[-1]) is out
    assert np.array_equal(out, done)


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    adapters = pytest.importorskip("infogeo_adapters")
    x = member("Gaussian")
    with pytest.raises(OutputError, match=r"cannot write .*give another path"):
        adapters.pairwise_to_file(tmp_path / "missing" / "distances.npy", ig.kl_divergence, x)
    for arguments in (
        (None, ig.kl_divergence, x),
        (tmp_path / "a.npy", "kl", x),
        (tmp_path / "a.npy", ig.kl_divergence, 1),
    ):
        with pytest.raises(InfogeoError):
            adapters.pairwise_to_file(*arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shrinkage", [ig.ledoit_wolf, ig.oracle_approximating])
def test_statistics_of_a_shrinkage_are_checked(shrinkage: Any) -> None:
    for junk in [*JUNK, np.ones((2, 3)), np.eye(2) * 1e200]:
        with pytest.raises(InfogeoError):
            shrinkage(junk, n=5, fourth_moment=1.0)
    for count in (0, -1, 2.5, None, "5"):
        with pytest.raises(ArgumentError, match="n: found"):
            shrinkage(np.diag([1.0, 3.0]), n=count, fourth_moment=1.0)


def test_layers_to_compare_are_checked() -> None:
    for junk in JUNK:
        with pytest.raises(ArgumentError, match="activations: found"):
            ig.compare_layers([None], junk)


def test_alpha_geodesics_of_unequal_probabilities_have_a_limit() -> None:
    p = ig.Categorical.from_probs([[0.9, 0.1], [0.1, 0.9]])
    with pytest.raises(DomainError, match=r"alpha 1e.12 is too large"):
        ig.alpha_geodesic(p, p[::-1], 0.5, alpha=1e12)
