"""Families: what they accept, what they refuse and how, and their densities, entropies and samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import random_batch, random_covariance
from scipy import stats

from infogeo import Categorical, DiagonalGaussian, Family, Gaussian, PointMass, SharedCovarianceGaussian
from infogeo.errors import ArgumentError, DomainError, ShapeError

FAMILIES = (DiagonalGaussian, SharedCovarianceGaussian, Gaussian, Categorical, PointMass)
NORMALS = (DiagonalGaussian, SharedCovarianceGaussian, Gaussian)
RNG = np.random.default_rng


def parameters(x: Family) -> dict[str, np.ndarray]:
    return {name: getattr(x, name) for name in ("mean", "var", "cov", "log_probs", "location") if hasattr(x, name)}


# ---------------------------------------------------------------------------------------------------- all families


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_read_only_float64_copies(family):
    x = random_batch(family, 4, RNG(0))
    for name, value in parameters(x).items():
        assert value.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            value[...] = 0.0
        given_array = np.array(value)
        view = given_array[:1]
        kept = getattr(type(x)(**{**parameters(x), name: given_array}), name)
        assert given_array.flags.writeable
        view[...] = 77.0
        np.testing.assert_array_equal(kept, value)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "index", [1, -1, slice(1, 3), [0, 2], np.array([True, False, True, True]), None, ..., (None, 2)], ids=repr
)
def test_index_cuts_the_batch_and_nothing_else(family, index):
    x = random_batch(family, 4, RNG(0))
    chosen = x[index]
    assert chosen.batch_shape == np.empty(4)[index].shape
    assert (chosen.dimension, chosen.member_size) == (x.dimension, x.member_size)
    for name, k in x.event_axes.items():
        value = getattr(x, name)
        rows = value.reshape(4, -1)[index].reshape(*chosen.batch_shape, *value.shape[value.ndim - k :])
        np.testing.assert_array_equal(getattr(chosen, name), rows)
    np.testing.assert_array_equal(chosen.entropy(), x.entropy()[index])


@pytest.mark.parametrize("family", FAMILIES)
def test_index_of_several_axes(family):
    x = random_batch(family, 6, RNG(1))[np.arange(6).reshape(2, 3)]
    assert x.batch_shape == (2, 3)
    assert x[1].batch_shape == (3,)
    assert x[:, 0].batch_shape == (2,)
    assert x[..., 2].batch_shape == (2,)
    assert x[[0, 1, 1], [0, 2, 2]].batch_shape == (3,)
    assert [len(row) for row in x] == [3, 3]


@pytest.mark.parametrize("family", FAMILIES)
def test_index_outside_the_batch_is_an_index_error(family):
    x = random_batch(family, 4, RNG(0))
    with pytest.raises(IndexError, match=r"batch shape \(4,\)"):
        x[4]
    with pytest.raises(IndexError, match=r"batch shape \(\)"):
        x[0][0]
    with pytest.raises(TypeError, match="no length"):
        len(x[0])
    with pytest.raises(ShapeError, match="holds no members"):
        x[4:]


@pytest.mark.parametrize("family", FAMILIES)
def test_parameter_rows_have_one_plain_row_for_each_member(family):
    x = random_batch(family, 4, RNG(0))
    columns, rows = x.parameter_rows()
    assert len(rows) == 4
    assert all(len(row) == len(columns) and all(type(v) in (int, float) for v in row) for row in rows)
    assert x[0].parameter_rows()[1] == rows[:1]


def test_parameter_rows_of_univariate_normals_are_mean_and_variance():
    assert DiagonalGaussian([[1.0], [2.0]], [[3.0], [4.0]]).parameter_rows() == (
        ("mean", "variance"), [(1.0, 3.0), (2.0, 4.0)],
    )  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_entries_that_are_not_finite_are_refused_by_place(family, bad):
    fields = {name: np.array(value) for name, value in parameters(random_batch(family, 4, RNG(0))).items()}
    for name, value in fields.items():
        value[(1, *(0,) * (value.ndim - 1))] = bad
        with pytest.raises(DomainError, match=rf"{name}: entry \(1, 0.*\) is {bad}"):
            family(**fields)
        value[(1, *(0,) * (value.ndim - 1))] = 1.0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_coarser_numbers_are_taken_and_turned_into_float64(family, dtype):
    values = {"mean": [[1, 2], [3, 4]], "var": [[1, 2], [3, 4]], "location": [[1, 2], [3, 4]]}
    values |= {"cov": [[2, 1], [1, 2]] if family is SharedCovarianceGaussian else [[[2, 1], [1, 2]]] * 2}
    values |= {"log_probs": [[0, -1000], [-1000, 0]] if dtype == np.int64 else np.log([[0.25, 0.75], [0.1, 0.9]])}
    x = family(**{name: np.array(values[name], dtype=dtype) for name in parameters(random_batch(family, 2, RNG(0)))})
    assert all(value.dtype == np.float64 for value in parameters(x).values())


@pytest.mark.parametrize("family", FAMILIES)
def test_complex_numbers_and_text_are_refused(family):
    for bad in (np.complex128, "U5"):
        fields = {name: value.astype(bad) for name, value in parameters(random_batch(family, 2, RNG(0))).items()}
        with pytest.raises(DomainError, match="wanted real numbers"):
            family(**fields)


@pytest.mark.parametrize("make", [lambda a: DiagonalGaussian(a, a), PointMass, Categorical, Categorical.from_probs])
def test_empty_and_shapeless_batches_are_refused(make):
    with pytest.raises(ShapeError, match="no members"):
        make(np.ones((0, 3)))
    with pytest.raises(ShapeError, match="wanted"):
        make(np.ones((3, 0)))
    with pytest.raises(ShapeError, match="wanted"):
        make(1.0)
    with pytest.raises(ShapeError, match="different lengths"):
        make([[1.0], [1.0, 2.0]])


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_have_the_shape_asked_for_and_follow_the_seed(family):
    x = random_batch(family, 4, RNG(0), d=3)
    drawn = x.sample(7, shape=(5, 2))
    assert drawn.shape == ((5, 2, 4) if family is Categorical else (5, 2, 4, 3))
    np.testing.assert_array_equal(drawn, x.sample(np.random.default_rng(7), shape=(5, 2)))
    assert x[0].sample(0).shape == drawn.shape[3:]


@pytest.mark.parametrize("family", [*NORMALS, Categorical])
def test_entropy_is_the_mean_of_minus_log_prob(family):
    x = random_batch(family, 3, RNG(0))
    surprise = -x.log_prob(x.sample(1, shape=(40_000,)))
    error = surprise.std(axis=0) / 200
    assert (np.abs(surprise.mean(axis=0) - x.entropy()) < 5 * error).all()


# --------------------------------------------------------------------------------------------------------- normals


def test_normal_densities_and_entropies_are_those_of_scipy():
    rng = RNG(3)
    full = random_batch(Gaussian, 3, rng)
    x = rng.standard_normal((5, 1, 3))
    for i in range(3):
        reference = stats.multivariate_normal(full.mean[i], full.cov[i])
        np.testing.assert_allclose(full.log_prob(x)[:, i], reference.logpdf(x[:, 0]), rtol=1e-12)
        np.testing.assert_allclose(full.entropy()[i], reference.entropy(), rtol=1e-12)


@pytest.mark.parametrize("family", [DiagonalGaussian, SharedCovarianceGaussian])
def test_to_full_is_the_same_distribution(family):
    x = random_batch(family, 3, RNG(4))
    full, at = x.to_full(), RNG(5).standard_normal((6, 3, 3))
    assert type(full) is Gaussian
    np.testing.assert_allclose(full.log_prob(at), x.log_prob(at), rtol=1e-12)
    np.testing.assert_allclose(full.entropy(), x.entropy(), rtol=1e-12)


@pytest.mark.parametrize("family", NORMALS)
def test_samples_of_normals_have_their_mean_and_covariance(family):
    x = random_batch(family, 2, RNG(6))
    drawn = x.sample(8, shape=(50_000,))
    full = x if family is Gaussian else x.to_full()
    np.testing.assert_allclose(drawn.mean(axis=0), x.mean, atol=0.1)
    for i in range(2):
        np.testing.assert_allclose(np.cov(drawn[:, i].T), full.cov[i], rtol=0.1, atol=0.1)


@pytest.mark.parametrize("bad", [0.0, -0.5, -1e-300])
def test_variance_that_is_not_positive_is_refused_by_place(bad):
    with pytest.raises(DomainError, match=r"var: entry \(1, 0\) is .*; variances must be positive"):
        DiagonalGaussian(np.zeros((2, 2)), [[1.0, 1.0], [bad, 1.0]])


def test_tiny_and_huge_variances_are_allowed():
    assert DiagonalGaussian([0.0], [5e-324]).var[0] > 0
    assert np.isfinite(DiagonalGaussian([0.0], [1e308]).entropy())


def test_shapes_of_normals_must_fit():
    with pytest.raises(ShapeError, match=r"var: found shape \(2,\), wanted \(3, 2\)"):
        DiagonalGaussian(np.zeros((3, 2)), np.ones(2))
    with pytest.raises(ShapeError, match=r"cov: found shape \(3, 3\), wanted \(2, 2\)"):
        SharedCovarianceGaussian(np.zeros((3, 2)), np.eye(3))
    with pytest.raises(ShapeError, match=r"cov: found shape \(2, 2\), wanted \(3, 2, 2\)"):
        Gaussian(np.zeros((3, 2)), np.eye(2))
    with pytest.raises(ShapeError, match=r"x: found shape \(3,\), wanted \(..., 2\)"):
        Gaussian(np.zeros(2), np.eye(2)).log_prob(np.zeros(3))
    with pytest.raises(ShapeError, match="univariate normals have d = 1"):
        DiagonalGaussian(0.0, 1.0)


def test_covariance_that_is_not_symmetric_is_refused_by_entry():
    with pytest.raises(DomainError, match=r"cov: not symmetric, entry \(0, 1\) is 0.5 but entry \(1, 0\) is 0.4"):
        SharedCovarianceGaussian(np.zeros(2), [[1.0, 0.5], [0.4, 1.0]])
    with pytest.raises(DomainError, match=r"not symmetric, entry \(1, 0, 1\) is 0.5"):
        Gaussian(np.zeros((2, 2)), [np.eye(2), [[1.0, 0.5], [0.4, 1.0]]])


def test_asymmetry_by_rounding_is_evened_out_at_every_scale():
    for scale in (1e-20, 1.0, 1e20):
        cov = scale * np.array([[1.0, 0.5 + 1e-12], [0.5, 1.0]])
        kept = SharedCovarianceGaussian(np.zeros(2), cov).cov
        np.testing.assert_array_equal(kept, kept.T)
        with pytest.raises(DomainError, match="not symmetric"):
            SharedCovarianceGaussian(np.zeros(2), scale * np.array([[1.0, 0.5 + 1e-7], [0.5, 1.0]]))


@pytest.mark.parametrize(
    "cov", [[[1.0, 2.0], [2.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, 1.0]]]
)
def test_covariance_that_is_not_positive_definite_is_refused(cov):
    with pytest.raises(DomainError, match=r"cov: not positive definite .* shrink it"):
        SharedCovarianceGaussian(np.zeros(2), cov)
    with pytest.raises(DomainError, match=r"cov\[1\]: not positive definite"):
        Gaussian(np.zeros((3, 2)), [np.eye(2), cov, np.eye(2)])


def test_covariance_singular_but_for_rounding_is_refused():
    x = RNG(0).standard_normal((20, 30))  # 20 vectors in 30 dimensions
    cov = np.cov(x.T)
    with pytest.raises(DomainError, match="fewer observations than the 30 dimensions"):
        SharedCovarianceGaussian(np.zeros(30), cov)
    SharedCovarianceGaussian(np.zeros(30), cov + 1e-6 * np.eye(30))


def test_badly_scaled_covariance_is_allowed():
    scale = np.diag([1e-8, 1.0, 1e8])
    SharedCovarianceGaussian(np.zeros(3), scale @ random_covariance(3, RNG(0)) @ scale)


# ----------------------------------------------------------------------------------------------------- categorical


def test_three_ways_to_one_categorical():
    probs = np.array([[0.2, 0.3, 0.5], [0.0, 0.25, 0.75]])
    made = Categorical.from_probs(probs)
    np.testing.assert_allclose(Categorical.from_counts(1000 * probs).log_probs, made.log_probs, rtol=1e-14)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(Categorical.from_logits(np.log(probs) + 7.0).log_probs, made.log_probs, rtol=1e-14)
    np.testing.assert_allclose(made.probs, probs, rtol=1e-15)


@given(st.lists(st.floats(-700, 700), min_size=1, max_size=20), st.floats(-1e3, 1e3))
def test_softmax_sums_to_one_and_ignores_a_shift(logits, shift):
    p = Categorical.from_logits(logits)
    assert abs(p.probs.sum() - 1) < 1e-13
    np.testing.assert_allclose(Categorical.from_logits(np.array(logits) + shift).log_probs, p.log_probs, atol=1e-9)


def test_huge_logits_and_counts_do_not_overflow():
    assert Categorical.from_logits([1e308, -1e308]).probs.tolist() == [1.0, 0.0]
    np.testing.assert_allclose(Categorical.from_counts([1e308, 1e308]).probs, [0.5, 0.5])
    np.testing.assert_allclose(Categorical.from_counts([5e-324, 5e-324]).probs, [0.5, 0.5])


@pytest.mark.parametrize("make", [Categorical.from_probs, lambda p: Categorical(np.log(p))])
def test_row_that_does_not_sum_to_one_is_refused_with_row_sum_and_tolerance(make):
    with pytest.raises(DomainError, match=r"the probabilities of row 1 sum to 0.9, wanted 1 within 1e-09.*from_counts"):
        make(np.array([[0.5, 0.5], [0.4, 0.5], [0.5, 0.5]]))
    with pytest.raises(DomainError, match=r"of the row sum to 1.00000001, wanted 1"):
        make(np.array([0.5, 0.5 + 1e-8]))
    with pytest.raises(DomainError, match=r"of row \(1, 0\) sum to 0.9"):
        make(np.array([[[0.5, 0.5]], [[0.4, 0.5]]]))


def test_sum_may_be_off_by_the_rounding_of_the_dtype_and_no_more():
    probs = np.array([0.1, 0.2, 0.3, 0.4])
    for dtype, off in ((np.float32, 2e-6), (np.float16, 0.006)):
        p = Categorical.from_probs((probs * (1 + off)).astype(dtype))
        assert abs(p.probs.sum() - 1) < 1e-15  # rounding is divided out
        with pytest.raises(DomainError, match="sum to"):
            Categorical.from_probs((probs * (1 + 10 * off)).astype(dtype))
        with pytest.raises(DomainError, match="sum to"):
            Categorical.from_probs((probs * (1 + off)).astype(dtype).astype(np.float64))
    p = Categorical((np.log(probs) + 2e-6).astype(np.float32))
    assert abs(p.probs.sum() - 1) < 1e-15


def test_half_precision_may_not_be_off_by_more_than_one_rounding_of_a_logarithm():
    probs = np.array([0.1, 0.2, 0.3, 0.4])
    for off in (0.01, 0.03):
        with pytest.raises(DomainError, match=r"wanted 1 within 0\.008"):
            Categorical.from_probs((probs * (1 + off)).astype(np.float16))
    p = np.random.default_rng(0).dirichlet(np.full(5000, 0.3))
    Categorical(np.log(p).astype(np.float16))  # what rounding leaves is far less


def test_log_probs_of_the_constructor_are_kept_to_the_last_bit():
    p = Categorical.from_logits(RNG(0).standard_normal((5, 1000)))
    np.testing.assert_array_equal(Categorical(p.log_probs).log_probs, p.log_probs)


def test_negative_probabilities_counts_and_positive_logarithms_are_refused():
    with pytest.raises(DomainError, match=r"probs: entry \(1,\) is -0.1; probabilities must not be negative"):
        Categorical.from_probs([1.1, -0.1])
    with pytest.raises(DomainError, match=r"counts: entry \(0,\) is -1"):
        Categorical.from_counts([-1, 2])
    with pytest.raises(DomainError, match=r"log_probs: entry \(0,\) is 0.5, a probability above one.*from_probs"):
        Categorical([0.5, 0.5])
    with pytest.raises(DomainError, match="pseudocount"):
        Categorical.from_counts([1, 2], pseudocount=-1.0)


def test_rows_without_any_mass_are_refused():
    with pytest.raises(DomainError, match="logits: all entries of row 1 are minus infinity"):
        Categorical.from_logits([[0.0, 0.0], [-np.inf, -np.inf]])
    with pytest.raises(DomainError, match="counts: all entries of the row are zero"):
        Categorical.from_counts([0, 0])
    with pytest.raises(DomainError, match="sum to 0, wanted 1"):
        Categorical([-np.inf, -np.inf])
    with pytest.raises(DomainError, match=r"logits: entry \(0,\) is inf"):
        Categorical.from_logits([np.inf, 0.0])


def test_impossible_outcomes_have_no_entropy_and_are_never_drawn():
    p = Categorical.from_probs([0.0, 0.5, 0.0, 0.5, 0.0])
    assert p.entropy() == pytest.approx(np.log(2), rel=1e-15)
    assert set(np.unique(p.sample(0, shape=(2000,)))) == {1, 3}
    assert Categorical.from_probs([1.0, 0.0]).entropy() == 0.0
    assert p.log_prob([0, 1]).tolist() == [-np.inf, np.log(0.5)]


def test_samples_of_a_categorical_have_its_frequencies():
    p = Categorical.from_probs([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]])
    drawn = p.sample(0, shape=(100_000,))
    for i in range(2):
        np.testing.assert_allclose(np.bincount(drawn[:, i]) / 100_000, p.probs[i], atol=0.01)


def test_outcomes_outside_the_range_or_not_whole_are_refused():
    p = Categorical.from_probs([0.5, 0.5])
    with pytest.raises(DomainError, match="between 0 and 1"):
        p.log_prob(2)
    with pytest.raises(DomainError, match="between 0 and 1"):
        p.log_prob(-1)
    with pytest.raises(DomainError, match="wanted integers"):
        p.log_prob(0.5)


def test_a_point_mass_has_no_density():
    x = PointMass([[1.0, 2.0]])
    assert x.entropy().tolist() == [-np.inf]
    assert x.sample(shape=(2,)).tolist() == [[[1.0, 2.0]]] * 2
    with pytest.raises(DomainError, match="no density"):
        x.log_prob([1.0, 2.0])


# ----------------------------------------------------------------------------------------------------- coordinates


@pytest.mark.parametrize("family", FAMILIES)
def test_coordinates_lead_back_to_the_members(family):
    x = random_batch(family, 4, RNG(0))
    n = x.coordinate_size
    assert x.coordinates().shape == (4, n)
    back = x[0].with_coordinates(x.coordinates())
    for name, value in parameters(x).items():
        np.testing.assert_allclose(getattr(back, name), value, rtol=1e-13, atol=1e-15)
    rates = RNG(1).standard_normal((2, 4, n))
    np.testing.assert_array_equal(x.join(**x.split(rates)), rates)
    for wrong in (np.zeros(n + 1), 1.0):
        with pytest.raises(ShapeError, match=rf"x: found shape .*, wanted \(..., {n}\), the coordinates of"):
            x.split(wrong)
        with pytest.raises(ShapeError, match=rf"x: found shape .*, wanted \(..., {n}\), the coordinates of"):
            x.with_coordinates(wrong)
    with pytest.raises(ArgumentError, match="join: found parts"):
        x.join(other=rates)


def test_coordinates_of_full_normals_are_the_mean_and_the_lower_triangle_by_rows():
    p = Gaussian([1.0, 2.0, 3.0], [[4.0, 0.1, 0.2], [0.1, 5.0, 0.3], [0.2, 0.3, 6.0]])
    assert p.coordinate_size == 9
    assert p.coordinates().tolist() == [1.0, 2.0, 3.0, 4.0, 0.1, 5.0, 0.2, 0.3, 6.0]
    rates = p.split([0, 0, 0, 1, 2, 3, 4, 5, 6])
    assert rates["cov"].tolist() == [[1, 2, 4], [2, 3, 5], [4, 5, 6]]
    assert p.parameters_at(p.coordinates())["cov"].tolist() == p.cov.tolist()
    assert p.join(mean=np.zeros((2, 3)), cov=rates["cov"]).shape == (2, 9)
    with pytest.raises(ShapeError, match=r"cov: found shape \(2, 2\), wanted \(..., 3, 3\)"):
        p.join(mean=np.zeros(3), cov=np.eye(2))


def test_moving_along_a_coordinate_of_a_full_normal_moves_both_mirror_entries():
    p, h = random_batch(Gaussian, 3, RNG(0)), 1e-6
    velocity = RNG(1).standard_normal(p.coordinate_size)
    ahead, behind = (p.with_coordinates(p.coordinates() + s * h * velocity) for s in (1, -1))
    for name, rate in p.split(velocity).items():
        change = (getattr(ahead, name) - getattr(behind, name)) / (2 * h)
        np.testing.assert_allclose(change, np.broadcast_to(rate, change.shape), atol=1e-9)


def test_coordinates_of_categoricals_leave_the_last_probability_out():
    p = Categorical.from_probs([[0.25, 0.5, 0.25], [0.5, 0.5, 0.0]])
    np.testing.assert_allclose(p.coordinates(), [[0.25, 0.5], [0.5, 0.5]], rtol=1e-15)
    assert p.coordinate_size == 2
    np.testing.assert_allclose(p.with_coordinates([0.25, 0.5]).probs, [0.25, 0.5, 0.25], rtol=1e-15)
    assert p.with_coordinates([0.3, 0.7]).probs[2] == 0
    assert p.parameters_at([0.25, 0.5])["probs"].tolist() == [0.25, 0.5, 0.25]
    assert p.split([0.25, 0.5])["probs"].tolist() == [0.25, 0.5, -0.75]
    assert p.join(probs=[0.25, 0.5, -0.75]).tolist() == [0.25, 0.5]
    assert Categorical([0.0]).coordinates().shape == (0,)
    assert Categorical([0.0]).with_coordinates([]).probs.tolist() == [1.0]


def test_coordinates_that_are_no_probabilities_are_refused():
    p = Categorical.from_probs([0.25, 0.5, 0.25])
    with pytest.raises(DomainError, match=r"x: the probabilities of the first outcomes sum to 1\.1, wanted at most 1"):
        p.with_coordinates([0.5, 0.6])
    with pytest.raises(DomainError, match=r"x: entry \(0,\) is -0.1; probabilities must not be negative"):
        p.with_coordinates([-0.1, 0.6])
    with pytest.raises(ShapeError, match=r"probs: found shape \(2,\), wanted \(..., 3\)"):
        p.join(probs=[0.5, 0.5])


# --------------------------------------------------------------------------------------- nearly singular covariances


@pytest.mark.parametrize("d", [2, 5, 20, 64, 384])
@pytest.mark.parametrize("spectrum", ["one small", "one large", "even"])
def test_covariance_of_condition_1e12_is_taken(d, spectrum):
    rng = RNG(d)
    basis, _ = np.linalg.qr(rng.standard_normal((d, d)))
    values = {"one small": [1e-12, *[1.0] * (d - 1)], "one large": [*[1e-12] * (d - 1), 1.0],
              "even": np.logspace(-12, 0, d)}[spectrum]  # fmt: skip
    cov = (basis * values) @ basis.T
    p = Gaussian(np.zeros(d), cov)
    np.testing.assert_allclose(p.cholesky @ p.cholesky.T, cov, atol=1e-15 * d)
    if d <= 64:
        assert p.entropy() == pytest.approx(0.5 * np.log(2 * np.pi * np.e * np.array(values)).sum(), abs=0.05 * d)
    SharedCovarianceGaussian(np.zeros((3, d)), cov)


def test_covariance_singular_to_working_precision_is_refused_with_its_eigenvalues():
    for d in (2, 20):
        basis, _ = np.linalg.qr(RNG(d).standard_normal((d, d)))
        cov = (basis * [1e-17, *[1.0] * (d - 1)]) @ basis.T
        message = r"cov\[1\]: not positive definite to working precision \(eigenvalues from .* to 1\).*shrink it toward"
        with pytest.raises(DomainError, match=message):
            Gaussian(np.zeros((3, d)), [np.eye(d), cov, np.eye(d)])
