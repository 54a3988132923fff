"""Families made of torch tensors: the same values, the same errors, and gradients that are right everywhere."""

from __future__ import annotations

import dataclasses
import itertools
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import MAKERS, random_batch, random_covariance

from infogeo import (
    MEASURES,
    Categorical,
    DiagonalGaussian,
    Exponential,
    Gaussian,
    LowRankGaussian,
    PointMass,
    SharedCovarianceGaussian,
    bhattacharyya_distance,
    bures_wasserstein_distance,
    cosine_distance,
    fisher_rao_distance,
    hellinger_distance,
    jeffreys_divergence,
    jensen_shannon_distance,
    kl_divergence,
)
from infogeo.errors import DomainError, ShapeError
from infogeo.measures import check_pair

torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")

RNG = np.random.default_rng
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
FAMILIES = list(MAKERS)
NORMALS = [f for f in FAMILIES if f not in (Categorical, PointMass)]
CASES = [pytest.param(m, f, id=f"{m.name}-{f.__name__}") for m in MEASURES.values() for f in m.families if f in MAKERS]
FREE = [c for c in CASES if c.values[1] is not LowRankGaussian]
"""Without the pairs that need one diagonal, whose entries cannot move on their own: see tests/test_low_rank.py."""
SMOOTH = [c for c in FREE if c.values[0].name != "total_variation_distance"]  # that has a kink at equal probabilities


def tensors(x, *, device="cpu", gradient=False):
    """The same batch made of tensors."""
    fields = {f.name: getattr(x, f.name) for f in dataclasses.fields(x)}
    return type(x)(
        **{
            name: torch.tensor(value, device=device, requires_grad=gradient) if isinstance(value, np.ndarray) else value
            for name, value in fields.items()
        }
    )


def central_differences(f, x, step):
    """Gradient of a function of an array, by central differences; exact values of the steps are used."""
    slopes = np.zeros(x.shape)
    for place in np.ndindex(x.shape):
        ahead, behind = x.copy(), x.copy()
        ahead[place] += step
        behind[place] -= step
        slopes[place] = (f(ahead) - f(behind)) / (ahead[place] - behind[place])
    return slopes


def slope(f, x):
    """Value and gradient of a function of a tensor, by torch."""
    leaf = torch.tensor(x, requires_grad=True)
    value = f(leaf)
    if not value.requires_grad:  # the value does not depend on it
        return float(value), np.zeros(x.shape)
    value.backward()
    return float(value.detach()), leaf.grad.numpy()


# ----------------------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("spread", [1.0, 1e-6])
@pytest.mark.parametrize(("m", "family"), CASES)
def test_tensors_and_arrays_have_the_same_values(m, family, spread, device):
    x = random_batch(family, 6, RNG(0), spread=spread)
    wanted = m(x[:4][:, None], x[4:][None])
    for gradient in (False, True):
        t = tensors(x, device=device, gradient=gradient)
        value = m(t[:4][:, None], t[4:][None])
        assert value.dtype == torch.float64
        assert value.device.type == device
        assert value.shape == (4, 2)
        assert value.requires_grad == gradient
        np.testing.assert_allclose(value.detach().cpu().numpy(), wanted, rtol=1e-14 if spread == 1 else 1e-13)
        assert m(t[0], t[1]).shape == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_family_offers_is_the_same_for_tensors(family):
    x = random_batch(family, 4, RNG(1))
    t = tensors(x)
    assert (t.batch_shape, t.dimension, t.member_size, len(t)) == (x.batch_shape, x.dimension, x.member_size, 4)
    assert type(t.batch_shape) is tuple
    np.testing.assert_allclose(t.entropy().numpy(), x.entropy(), rtol=1e-14)
    drawn = x.sample(7, shape=(5,))
    same = t.sample(7, shape=(5,))
    assert same.shape == drawn.shape
    np.testing.assert_allclose(same.numpy(), drawn, rtol=1e-13)
    assert x[0].sample(3).shape == tuple(t[0].sample(3).shape)
    if family is not PointMass:
        np.testing.assert_allclose(t.log_prob(same).numpy(), x.log_prob(drawn), rtol=1e-13)
        np.testing.assert_allclose(t.log_prob(drawn).numpy(), x.log_prob(drawn), rtol=1e-13)
        np.testing.assert_allclose(x.log_prob(same), x.log_prob(drawn), rtol=1e-13)
    names, rows = t.parameter_rows()
    assert names == x.parameter_rows()[0]
    assert all(type(v) in (int, float) for row in rows for v in row)
    np.testing.assert_allclose(rows, x.parameter_rows()[1], rtol=1e-13)
    if hasattr(x, "to_full"):
        full = t.to_full()
        np.testing.assert_allclose(full.cov.numpy(), x.to_full().cov, rtol=1e-14)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "index",
    [1, -1, np.int64(2), slice(1, 3), slice(None, None, -1), slice(3, 0, -2), [0, 2], np.array([2, 2, 0]),
     np.array([True, False, True, True]), None, ..., (None, 2)],
    ids=repr,
)  # fmt: skip
def test_any_index_of_numpy_cuts_tensors(family, index):
    x = random_batch(family, 4, RNG(0))
    t, wanted = tensors(x)[index], x[index]
    assert t.batch_shape == wanted.batch_shape
    for name in x.event_axes:
        np.testing.assert_array_equal(getattr(t, name).numpy(), getattr(wanted, name))
    np.testing.assert_allclose(t.entropy().numpy(), wanted.entropy(), rtol=1e-14)


@pytest.mark.parametrize("family", FAMILIES)
def test_index_outside_a_batch_of_tensors(family):
    t = tensors(random_batch(family, 4, RNG(0)))
    with pytest.raises(IndexError, match=r"batch shape \(4,\)"):
        t[4]
    with pytest.raises(ShapeError, match=r"batch shape \(0,\) holds no members"):
        t[4:]
    assert [x.batch_shape for x in t] == [()] * 4


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_copies_on_the_device(family):
    x = random_batch(family, 4, RNG(0))
    fields = {f.name: torch.tensor(getattr(x, f.name)) for f in dataclasses.fields(x)}
    t = family(**fields)
    for name, value in fields.items():
        value.zero_()
        np.testing.assert_array_equal(getattr(t, name).numpy(), getattr(x, name))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int64", "int32", "uint8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_coarser_tensors_are_turned_into_float64(family, dtype):
    dtype = getattr(torch, dtype)
    values = {"mean": [[1, 2], [3, 4]], "var": [[1, 2], [3, 4]], "location": [[1, 2], [3, 4]]}
    values |= {"cov": [[[2, 1], [1, 2]]] * 2, "factor": [[[1], [0]], [[2], [1]]], "diagonal": [[1, 2], [3, 4]]}
    values["log_probs"] = [[0.0, -1000.0], [-1000.0, 0.0]]
    if family is Categorical and dtype == torch.uint8:
        values["log_probs"] = [[0], [0]]
    if family is SharedCovarianceGaussian:
        values["cov"] = values["cov"][0]
    if family.event_axes.get("var") == 0:
        values["var"] = [1, 2]
    names = [f.name for f in dataclasses.fields(family)]
    t = family(**{name: torch.tensor(values[name]).to(dtype) for name in names})
    for name in names:
        assert getattr(t, name).dtype == torch.float64
        np.testing.assert_array_equal(getattr(t, name).numpy(), values[name])


def test_rounding_of_coarse_tensors_is_divided_out():
    probs = torch.tensor([0.1, 0.2, 0.3, 0.4])
    for dtype, off in ((torch.float32, 2e-6), (torch.float16, 0.006), (torch.bfloat16, 0.004)):
        p = Categorical.from_probs((probs * (1 + off)).to(dtype))
        assert abs(float(p.probs.sum()) - 1) < 1e-15
        with pytest.raises(DomainError, match=r"of the row sum to 1\.0.*from_counts"):
            Categorical.from_probs((probs * (1 + off)).to(dtype).double())


# ----------------------------------------------------------------------------------------- what is refused, and how


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_entries_that_are_not_finite_are_refused_in_the_same_words(family, bad):
    x = random_batch(family, 4, RNG(0))
    fields = {f.name: np.array(getattr(x, f.name)) for f in dataclasses.fields(x)}
    for value in fields.values():
        value[(1, *(0,) * (value.ndim - 1))] = bad
        compare_errors(lambda **f: family(**f), **fields)
        value[(1, *(0,) * (value.ndim - 1))] = 1.0


def compare_errors(call, *arguments, **fields):
    """Arrays and tensors are refused with one message."""
    with pytest.raises((DomainError, ShapeError)) as first:
        call(*arguments, **fields)
    with pytest.raises(type(first.value)) as second:
        call(
            *(torch.tensor(np.asarray(v), requires_grad=np.asarray(v).dtype.kind == "f") for v in arguments),
            **{k: torch.tensor(np.asarray(v), requires_grad=True) for k, v in fields.items()},
        )
    assert str(first.value) == str(second.value)


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (DiagonalGaussian, (np.zeros((2, 2)), np.array([[1.0, 1.0], [-0.5, 1.0]]))),
        (DiagonalGaussian, (np.zeros((3, 2)), np.ones(2))),
        (DiagonalGaussian, (1.0, 1.0)),
        (DiagonalGaussian, (np.zeros((0, 2)), np.ones((0, 2)))),
        (SharedCovarianceGaussian, (np.zeros((3, 2)), np.eye(3))),
        (SharedCovarianceGaussian, (np.zeros(2), np.array([[1.0, 0.5], [0.4, 1.0]]))),
        (SharedCovarianceGaussian, (np.zeros(2), np.ones((2, 2)))),
        (Gaussian, (np.zeros((2, 2)), np.array([np.eye(2), [[1.0, 0.5], [0.4, 1.0]]]))),
        (Gaussian, (np.zeros((3, 2)), np.array([np.eye(2), [[1.0, 2.0], [2.0, 1.0]], np.eye(2)]))),
        (Gaussian, (np.zeros((2, 2)), np.array([np.eye(2), [[1.0, 1.0], [1.0, 1.0 + 1e-15]]]))),
        (Categorical, (np.array([[0.0], [0.5]]),)),
        (Categorical, (np.log([[0.5, 0.5], [0.4, 0.5]]),)),
        (Categorical, (1.0,)),
        (Categorical, (np.zeros((3, 0)),)),
        (Categorical.from_probs, (np.array([1.1, -0.1]),)),
        (Categorical.from_probs, (np.array([[[0.5, 0.5]], [[0.4, 0.5]]]),)),
        (Categorical.from_counts, (np.array([[1.0, 2.0], [0.0, 0.0]]),)),
        (Categorical.from_counts, (np.array([-1.0, 2.0]),)),
        (Categorical.from_logits, (np.array([[0.0, 0.0], [-np.inf, -np.inf]]),)),
        (Categorical.from_logits, (np.array([np.inf, 0.0]),)),
        (PointMass, (1.0,)),
        (PointMass, (np.zeros((0, 2)),)),
        (lambda x: cosine_distance(PointMass(x), PointMass(x)), (np.array([[1.0, 0.0], [0.0, 0.0]]),)),
        (lambda x: DiagonalGaussian(x, x + 1).log_prob(np.zeros(3)), (np.zeros(2),)),
        (lambda x: DiagonalGaussian(x, x + 1).split(np.zeros(3)), (np.zeros(2),)),
        (lambda x: Categorical.from_logits(x).with_coordinates(x), (np.array([0.7, 0.7, 0.1]),)),
        (lambda x: Categorical.from_logits([0.0, 0.0, 0.0]).with_coordinates(x), (np.array([0.7, 0.7]),)),
        (lambda x: Categorical.from_logits([0.0, 0.0, 0.0]).with_coordinates(x), (np.array([0.7, -0.2]),)),
        (lambda x: Categorical.from_logits(x).log_prob(2), (np.zeros(2),)),
        (lambda x: Categorical.from_logits(x).log_prob(0.5), (np.zeros(2),)),
        (lambda x: kl_divergence(DiagonalGaussian(x, x + 1), DiagonalGaussian(x[:1], x[:1] + 1)), (np.zeros(2),)),
        (lambda x: kl_divergence(*(SharedCovarianceGaussian(x[0], c * x[1:]) for c in (1, 2))),
         (np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),)),
    ],
)  # fmt: skip
def test_bad_tensors_are_refused_in_the_words_of_arrays(call, arguments):
    compare_errors(call, *arguments)


@pytest.mark.parametrize("family", FAMILIES)
def test_complex_sparse_and_empty_tensors_are_refused(family):
    fields = {name: torch.tensor(getattr(random_batch(family, 2, RNG(0)), name)) for name in
              (f.name for f in dataclasses.fields(family))}  # fmt: skip
    with pytest.raises(DomainError, match=r"found dtype torch.complex128, wanted real numbers"):
        family(**{name: value.to(torch.complex128) for name, value in fields.items()})
    with pytest.raises(DomainError, match="found a sparse or nested tensor, wanted a dense one"):
        family(**{name: value.to_sparse() for name, value in fields.items()})
    with pytest.raises(DomainError, match="found a tensor on the meta device, which holds no numbers"):
        family(**{name: value.to("meta") for name, value in fields.items()})


def test_constants_of_numpy_beside_a_tensor_are_moved_to_it():
    mean = torch.zeros(3, 2, requires_grad=True)
    for family, constants in (
        (SharedCovarianceGaussian, {"cov": np.eye(2)}), (Gaussian, {"cov": [np.eye(2)] * 3}),
        (DiagonalGaussian, {"var": np.ones((3, 2))}),
    ):  # fmt: skip
        made = family(mean=mean, **constants)
        assert all(getattr(made, f.name).dtype == torch.float64 for f in dataclasses.fields(made))
        assert made.mean.requires_grad
    assert isinstance(Gaussian(np.zeros(2), torch.eye(2)).mean, torch.Tensor)
    with pytest.raises(DomainError, match="found tensors on several devices: mean on cpu, cov on meta"):
        Gaussian(torch.zeros(2), torch.eye(2, device="meta"))


@pytest.mark.parametrize(("m", "family"), CASES)
def test_arrays_and_tensors_are_not_mixed_in_one_measure(m, family):
    x = random_batch(family, 2, RNG(0))
    for p, q in ((x, tensors(x)), (tensors(x), x)):
        with pytest.raises(DomainError, match=rf"{m.name}: found a {family.__name__} of .*tensors on cpu"):
            m(p, q)


def test_tensors_on_two_devices_are_not_mixed():
    p, q = PointMass(torch.zeros(2)), PointMass(torch.zeros(2))
    object.__setattr__(q, "location", q.location.to("meta"))
    with pytest.raises(DomainError, match="of tensors on cpu and one of tensors on meta, wanted both"):
        check_pair("any", p, q)


def test_where_numpy_computes_a_tensor_with_a_gradient_is_refused_and_a_plain_one_read():
    assert Exponential(torch.tensor([2.0])).rate.tolist() == [2.0]
    assert isinstance(Exponential(torch.tensor([2.0], dtype=torch.bfloat16)).rate, np.ndarray)
    with pytest.raises(DomainError, match=r"rate: found a tensor that records a gradient.*rate.detach\(\).cpu\(\)"):
        Exponential(torch.tensor([2.0], requires_grad=True))
    with pytest.raises(DomainError, match=r"rate: found a tensor on .*meta"):
        Exponential(torch.tensor([2.0], device="meta"))
    p = DiagonalGaussian([0.0], [1.0])
    assert isinstance(p.log_prob(torch.zeros(1)), np.ndarray)
    with pytest.raises(DomainError, match="x: found a tensor that records a gradient"):
        p.log_prob(torch.zeros(1, requires_grad=True))


# -------------------------------------------------------------------------------------------------------- gradients


def ends(family, spread, *, seed=0):
    """Two broadcasting batches by their coordinates, and the function that makes members of coordinates."""
    x = random_batch(family, 5, RNG(seed), d=2, spread=spread)
    return x[:3][:, None].coordinates(), x[3:].coordinates(), x.with_coordinates


@pytest.mark.parametrize(("m", "family"), FREE)
def test_gradients_pass_gradcheck_with_broadcasting(m, family):
    x, y, make = ends(family, 0.7)
    leaves = [torch.tensor(v, requires_grad=True) for v in (x, y)]
    assert torch.autograd.gradcheck(lambda a, b: m(make(a), make(b)), leaves, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("spread", [3.0, 1e-3, 1e-6])
@pytest.mark.parametrize(("m", "family"), SMOOTH)
def test_gradients_are_the_slopes_of_the_values_of_numpy(m, family, spread):
    x, y, make = ends(family, spread, seed=1)
    for f, at in ((lambda v: m(make(v), make(_as(y, v))).sum(), x), (lambda v: m(make(_as(x, v)), make(v)).sum(), y)):
        value, gradient = slope(f, at)
        assert value == pytest.approx(float(f(at)), rel=1e-12)
        # small probabilities bend the most; and the total variation has a kink where two of them are equal
        fraction = 1e-6 if m.name == "total_variation_distance" else 1e-4 if family is Categorical else 1e-3
        step = fraction * min(spread, 3e-3)
        numbers = central_differences(f, at, step)
        np.testing.assert_allclose(gradient, numbers, rtol=1e-4, atol=1e-4 * np.abs(numbers).max())


def _as(array, other):
    return torch.tensor(array) if isinstance(other, torch.Tensor) else array


@pytest.mark.parametrize("family", [f for f in FAMILIES if f is not LowRankGaussian])
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([1e-9, 1e-4, 0.3, 2.0]))
@settings(max_examples=5, deadline=None)
def test_gradients_agree_with_differences_along_random_directions(family, seed, spread):
    rng = RNG(seed)
    x = random_batch(family, 2, rng, d=3, spread=spread)
    p, q = x.coordinates()
    along = rng.standard_normal(p.shape) * (p * rng.uniform(size=p.shape) if family is Categorical else 1)
    h = 1e-2 * min(spread, 1e-2) / np.linalg.norm(along) * (np.abs(p).min() if family is Categorical else 1)
    for m in (m for m in MEASURES.values() if family in m.families and m.name != "total_variation_distance"):
        value, gradient = slope(lambda v, m=m: m(x.with_coordinates(v), x.with_coordinates(_as(q, v))), p)
        ahead, behind = (m(x.with_coordinates(p + s * h * along), x.with_coordinates(q)) for s in (1, -1))
        near = 2e-3 * np.abs(gradient * along).sum() * h * 2 + 1e-15 * value
        assert float(ahead - behind) == pytest.approx(float((gradient * along).sum()) * 2 * h, abs=near)


@pytest.mark.parametrize(("m", "family"), CASES)
def test_gradients_at_coincident_members_are_zero_and_leave_the_others_alone(m, family):
    x = random_batch(family, 4, RNG(2), d=2)
    at = x.coordinates()
    leaf = torch.tensor(at, requires_grad=True)
    p = x.with_coordinates(leaf)
    m(p, p).sum().backward()
    np.testing.assert_allclose(leaf.grad.numpy(), 0, atol=1e-13)
    # the whole matrix: its diagonal adds nothing
    for order in (1, -1):
        leaf.grad = None
        p = x.with_coordinates(leaf)
        m(*(p[:, None], p[None])[::order]).sum().backward()
        whole = leaf.grad.clone()
        leaf.grad = None
        p = x.with_coordinates(leaf)
        i, j = np.nonzero(~np.eye(4, dtype=bool))
        m(*(p[i], p[j])[::order]).sum().backward()
        np.testing.assert_allclose(whole.numpy(), leaf.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("m", [m for m in MEASURES.values() if Gaussian in m.families], ids=lambda m: m.name)
@pytest.mark.parametrize(
    ("p", "q"),
    [
        (np.eye(3), 2 * np.eye(3)),
        (np.eye(3), np.diag([1.0, 1.0, 3.0])),
        (np.diag([2.0, 2.0, 1.0]), np.eye(3)),
        (np.eye(3), (1 + 1e-5) * np.eye(3)),
        (np.eye(3), np.eye(3) + 1e-5 * np.diag([1.0, 1.0, 0.0])),
    ],
)
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_gradients_at_repeated_eigenvalues(m, p, q, shift):
    p, q = Gaussian(np.zeros(3), p), Gaussian(np.array([shift, 0, 0]), q)
    for f, at in (
        (lambda v: m(p.with_coordinates(v), q.with_coordinates(_as(q.coordinates(), v))), p.coordinates()),
        (lambda v: m(p.with_coordinates(_as(p.coordinates(), v)), q.with_coordinates(v)), q.coordinates()),
    ):
        _, gradient = slope(f, at)
        numbers = central_differences(f, at, 1e-7)
        np.testing.assert_allclose(gradient, numbers, rtol=2e-3, atol=2e-3 * np.abs(numbers).max())


@pytest.mark.parametrize(
    "m", [m for m in MEASURES.values() if SharedCovarianceGaussian in m.families], ids=lambda m: m.name
)
def test_gradient_to_a_shared_covariance(m):
    rng = RNG(5)
    mean, cov = rng.standard_normal((4, 2)), random_covariance(2, rng)
    factor = np.linalg.cholesky(cov)

    def total(f):
        p = SharedCovarianceGaussian(_as(mean, f), f @ f.T)
        return m(p[:, None], p[None]).sum()

    _, gradient = slope(total, factor)
    np.testing.assert_allclose(gradient, central_differences(total, factor, 1e-5), rtol=1e-6, atol=1e-8)


OF_CATEGORICALS = [m for m in MEASURES.values() if Categorical in m.families]
SMOOTH_OF_CATEGORICALS = [m for m in OF_CATEGORICALS if m.name != "total_variation_distance"]


@pytest.mark.parametrize("m", OF_CATEGORICALS, ids=lambda m: m.name)
def test_gradients_to_logits_scores_and_counts(m):
    rng = RNG(6)
    logits, other = rng.standard_normal((2, 3, 4))
    q = Categorical.from_logits(other)
    for make, at in (
        (Categorical.from_logits, logits),
        (Categorical.from_counts, np.exp(logits)),
        (lambda c: Categorical.from_counts(c, pseudocount=0.5), np.exp(logits)),
        (lambda c: Categorical.from_probs(c / c.sum(-1)[..., None]), np.exp(logits)),
        (lambda x: Categorical(x - (torch if isinstance(x, torch.Tensor) else np).log(
            (torch if isinstance(x, torch.Tensor) else np).exp(x).sum(-1))[..., None]), logits),
    ):  # fmt: skip
        f = lambda v, make=make: m(make(v), q if isinstance(v, np.ndarray) else tensors(q)).sum()  # noqa: E731
        _, gradient = slope(f, at)
        np.testing.assert_allclose(gradient, central_differences(f, at, 1e-5), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("m", OF_CATEGORICALS, ids=lambda m: m.name)
def test_gradient_to_given_probabilities_is_that_of_the_normalized_ones(m):
    """So it does not depend on how the measure goes on beyond the simplex: moving all in proportion changes nothing."""
    probs, q = np.array([0.2, 0.3, 0.5]), tensors(Categorical.from_probs([0.4, 0.4, 0.2]))
    _, to_probs = slope(lambda v: m(Categorical.from_probs(v), q), probs)
    _, to_logs = slope(lambda v: m(Categorical(v), q), np.log(probs))
    _, to_counts = slope(lambda v: m(Categorical.from_counts(v), q), probs)
    assert probs @ to_probs == pytest.approx(0, abs=1e-14)
    np.testing.assert_allclose(to_probs, to_counts, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(to_logs, probs * to_counts, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("m", OF_CATEGORICALS, ids=lambda m: m.name)
def test_impossible_outcomes_have_gradient_zero_and_change_no_other(m):
    rng = RNG(7)
    a, b = rng.standard_normal((2, 5, 3))
    f = lambda q: lambda v: m(Categorical.from_logits(v), tensors(Categorical.from_logits(q))).sum()  # noqa: E731
    value, gradient = slope(f(b), a)
    hidden = np.full((5, 1), -np.inf)
    same, longer = slope(f(np.hstack([b, hidden])), np.hstack([a, hidden]))
    assert same == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(longer, np.hstack([gradient, np.zeros((5, 1))]), rtol=1e-12)
    probs = np.hstack([np.exp(a) / np.exp(a).sum(axis=1, keepdims=True), np.zeros((5, 1))])
    q = tensors(Categorical.from_logits(np.hstack([b, hidden])))
    _, to_probs = slope(lambda v: m(Categorical.from_probs(v), q).sum(), probs)
    assert np.isfinite(to_probs).all()
    np.testing.assert_allclose(to_probs[:, -1], 0, atol=1e-15)


@pytest.mark.parametrize("m", SMOOTH_OF_CATEGORICALS, ids=lambda m: m.name)
def test_outcomes_that_one_side_excludes(m):
    """Finite gradients where the value is finite, and where it is infinite zero: a mask keeps NaN out of the rest."""
    a = np.array([[0.0, 1.0, -np.inf], [0.0, 1.0, 2.0], [0.0, -np.inf, -np.inf], [1.0, 0.0, 0.5]])
    b = np.array([[0.5, 0.5, 1.0], [0.5, 0.5, -np.inf], [-np.inf, 0.0, 0.0], [0.5, 0.0, 0.8]])
    leaves = [torch.tensor(v, requires_grad=True) for v in (a, b)]
    value = m(*map(Categorical.from_logits, leaves))
    finite = torch.isfinite(value.detach())
    assert finite[3]
    torch.where(finite, value, 0.0).sum().backward()
    single = [torch.tensor(v[3], requires_grad=True) for v in (a, b)]
    m(*map(Categorical.from_logits, single)).backward()
    for leaf, alone in zip(leaves, single, strict=True):
        assert torch.isfinite(leaf.grad).all()
        np.testing.assert_allclose(leaf.grad[3].numpy(), alone.grad.numpy(), rtol=1e-14)
    for i in np.flatnonzero(finite.numpy()):  # along the outcomes that are possible
        f = lambda v, i=i: m(  # noqa: E731
            Categorical.from_logits(np.where(np.isinf(a[i]), a[i], v)), Categorical.from_logits(b[i])
        )
        numbers = central_differences(f, np.where(np.isinf(a[i]), 0.0, a[i]), 1e-5)
        np.testing.assert_allclose(leaves[0].grad[i].numpy(), numbers, rtol=1e-6, atol=1e-9)


def test_distances_of_disjoint_distributions_are_finite_and_stationary():
    leaves = [torch.tensor(v, requires_grad=True) for v in ([0.0, 1.0, -np.inf], [-np.inf, -np.inf, 0.0])]
    for m, value in (
        (fisher_rao_distance, np.pi), (hellinger_distance, 1.0), (jensen_shannon_distance, np.log(2) ** 0.5),
    ):  # fmt: skip
        d = m(*map(Categorical.from_logits, leaves))
        assert float(d.detach()) == pytest.approx(value, rel=1e-14)
        for g in torch.autograd.grad(d, leaves):
            np.testing.assert_allclose(g.numpy(), 0, atol=1e-14)
    for m in (kl_divergence, jeffreys_divergence, bhattacharyya_distance):
        d = m(*map(Categorical.from_logits, leaves))
        assert float(d.detach()) == np.inf
        for g in torch.autograd.grad(d, leaves):
            assert torch.isfinite(g).all()


def test_the_hessian_of_the_divergence_is_the_fisher_information():
    for p in (DiagonalGaussian([0.3, -1.0], [2.0, 0.5]), Categorical.from_probs([0.2, 0.3, 0.5])):
        x = torch.tensor(p.coordinates())
        hessian = torch.autograd.functional.hessian(
            lambda y, x=x, p=p: kl_divergence(p.with_coordinates(x), p.with_coordinates(y)), x
        )
        if isinstance(p, Categorical):
            wanted = np.diag(1 / p.probs[:-1]) + 1 / p.probs[-1]
        else:
            wanted = np.diag([*1 / p.var, *0.5 / p.var**2])
        np.testing.assert_allclose(hessian.numpy(), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("m", "family"), FREE)
def test_second_derivatives_are_right_or_refused(m, family):
    x = random_batch(family, 2, RNG(0), d=2, spread=0.7)
    leaves = [torch.tensor(v, requires_grad=True) for v in x.coordinates()]
    f = lambda a, b: m(x.with_coordinates(a), x.with_coordinates(b))  # noqa: E731
    try:
        torch.autograd.functional.hessian(f, tuple(v.detach() for v in leaves))
    except DomainError as error:
        assert "found a second derivative" in str(error)  # noqa: PT017
    else:
        assert torch.autograd.gradgradcheck(f, leaves, rtol=1e-4, atol=1e-5)


def test_the_distances_of_full_normals_refuse_a_second_derivative():
    p = random_batch(Gaussian, 2, RNG(0), d=2)
    for m in (fisher_rao_distance, bures_wasserstein_distance):
        with pytest.raises(DomainError, match=r"found a second derivative .* take it by differences"):
            torch.autograd.functional.hessian(
                lambda y, m=m: m(p[0].with_coordinates(y), tensors(p[1])) ** 2, torch.tensor(p[0].coordinates())
            )


def test_transforms_of_torch_func_take_first_derivatives():
    for m, family in ((fisher_rao_distance, DiagonalGaussian), (bures_wasserstein_distance, Gaussian)):
        x = random_batch(family, 2, RNG(0), d=2)
        at = torch.tensor(x.coordinates())
        f = lambda v, m=m, x=x, at=at: m(x.with_coordinates(v), x.with_coordinates(at[1]))  # noqa: E731
        _, wanted = slope(f, at[0].numpy())
        np.testing.assert_allclose(torch.func.grad(f)(at[0]).numpy(), wanted, rtol=1e-12)
        np.testing.assert_allclose(torch.func.jacrev(f)(at[0]).numpy(), wanted, rtol=1e-12)


@pytest.mark.parametrize("family", NORMALS)
def test_gradients_of_densities_entropies_and_draws(family):
    x = random_batch(family, 2, RNG(8), d=2)
    at = x.coordinates()
    points = RNG(9).standard_normal((3, 1, 2))
    weights = RNG(10).standard_normal((4, 2, 2))
    for f in (
        lambda v: x.with_coordinates(v).log_prob(points).sum(),
        lambda v: x.with_coordinates(v).entropy().sum(),
        lambda v: (x.with_coordinates(v).sample(11, shape=(4,)) * _as(weights, v)).sum(),
    ):
        _, gradient = slope(f, at)
        np.testing.assert_allclose(gradient, central_differences(f, at, 1e-5), rtol=1e-6, atol=1e-8)
    leaf = torch.tensor(points, requires_grad=True)
    tensors(x).log_prob(leaf).sum().backward()
    numbers = central_differences(lambda v: x.log_prob(v).sum(), points, 1e-5)
    np.testing.assert_allclose(leaf.grad.numpy(), numbers, rtol=1e-6, atol=1e-8)


def test_gradients_of_categoricals_entropies_and_log_probs():
    logits = RNG(12).standard_normal((3, 4))
    outcomes = np.array([[0, 1, 3], [2, 2, 0]])
    for f in (
        lambda v: Categorical.from_logits(v).entropy().sum(),
        lambda v: Categorical.from_logits(v).log_prob(outcomes).sum(),
        lambda v: Categorical.from_logits(v).log_prob(_as(outcomes, v)).sum(),
    ):
        _, gradient = slope(f, logits)
        np.testing.assert_allclose(gradient, central_differences(f, logits, 1e-5), rtol=1e-6, atol=1e-8)


def test_a_gradient_passes_through_a_family_twice():
    leaf = torch.tensor([[0.0, 1.0], [2.0, 3.0]], requires_grad=True)
    p = DiagonalGaussian(leaf, torch.ones(2, 2))
    for _ in range(2):
        fisher_rao_distance(p[0], p[1]).backward(retain_graph=True)
    assert torch.isfinite(leaf.grad).all()


# ------------------------------------------------------------------------------------------------------ coordinates


@pytest.mark.parametrize("family", FAMILIES)
def test_coordinates_of_tensors_are_tensors_and_lead_back(family):
    x = random_batch(family, 4, RNG(3))
    t = tensors(x, gradient=True)
    assert t.coordinates().requires_grad
    np.testing.assert_allclose(t.coordinates().detach().numpy(), x.coordinates(), rtol=1e-15)
    for back in (t.with_coordinates(t.coordinates()), x.with_coordinates(t.coordinates())):
        for name in x.event_axes:
            value = getattr(back, name)
            assert value.requires_grad
            np.testing.assert_allclose(value.detach().numpy(), getattr(x, name), rtol=1e-13, atol=1e-14)
    rates = RNG(4).standard_normal((4, x.coordinate_size))
    parts = t.split(torch.tensor(rates))
    for name, value in x.split(rates).items():
        np.testing.assert_array_equal(parts[name].numpy(), value)
    np.testing.assert_array_equal(t.join(**parts).numpy(), rates)
    np.testing.assert_array_equal(x.join(**parts).numpy(), rates)


def test_nothing_is_warned_about_and_the_default_dtype_does_not_matter():
    assert torch.get_default_dtype() == torch.float32
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for m, family in itertools.product((fisher_rao_distance, bures_wasserstein_distance), (DiagonalGaussian,)):
            t = tensors(random_batch(family, 3, RNG(0)), gradient=True)
            assert m(t[:, None], t[None]).dtype == torch.float64
