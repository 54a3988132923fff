"""The information plane: exact discrete cases, mixtures against Monte Carlo, bad input, seeds; models and words."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infogeo
from infogeo import _plane_estimators as kernels
from infogeo.errors import ArgumentError, DomainError, ShapeError, TextError
from infogeo.estimates import EstimateWarning
from infogeo.information_planes import InformationPath, InformationPlane, _jackknife, information_plane

QUIET: dict[str, Any] = {"level": None, "permutations": 0}


def corners(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Four kinds of input, and states at the corners of a square with a little jitter."""
    kind = np.arange(n) % 4
    square = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return kind, square[kind] + 0.01 * np.random.default_rng(1).normal(size=(n, 2))


# kernels


@pytest.mark.parametrize("flip", [0.0, 0.1, 0.5])
def test_plug_in_information_of_a_table_with_exact_proportions_is_the_information_of_the_channel(flip: float) -> None:
    counts = (1000 * np.array([[1 - flip, flip], [flip, 1 - flip]])).astype(int)
    a = np.repeat([0, 0, 1, 1], counts.reshape(-1))
    b = np.repeat([0, 1, 0, 1], counts.reshape(-1))
    terms = [p * np.log(p) for p in (flip, 1 - flip) if p > 0]
    assert kernels.discrete_information(a, b)[0] == pytest.approx(np.log(2) + sum(terms), abs=1e-12)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_discrete_information_is_that_of_the_public_estimator(seed: int) -> None:
    a, b = np.random.default_rng(seed).integers(0, 4, (2, 200))
    plug_in, corrected = kernels.discrete_information(a, b)
    assert plug_in == pytest.approx(infogeo.discrete_mutual_information(a, b, correction="plug_in"), abs=1e-12)
    assert corrected == pytest.approx(infogeo.discrete_mutual_information(a, b, correction="miller_madow"), abs=1e-12)


def test_k_means_finds_separated_clusters_whatever_the_seed() -> None:
    kind, t = corners()
    for seed in range(10):
        codes = kernels.k_means(t, 4, np.random.default_rng(seed))
        assert len(np.unique(codes)) == 4
        assert len(np.unique(codes * 4 + kind)) == 4


def test_k_means_keeps_the_best_of_its_runs() -> None:
    t = np.random.default_rng(3).normal(size=(200, 3))

    def loss(codes: np.ndarray) -> float:
        return float(sum(((t[codes == c] - t[codes == c].mean(axis=0)) ** 2).sum() for c in np.unique(codes)))

    one_by_one = np.random.default_rng(5)
    each = [loss(kernels.k_means(t, 12, one_by_one, restarts=1)) for _ in range(4)]
    assert np.argmin(each) < 3  # the last run is not the best one
    assert loss(kernels.k_means(t, 12, np.random.default_rng(5), restarts=4)) == pytest.approx(min(each))


def test_k_means_of_fewer_different_rows_than_clusters() -> None:
    t = np.repeat(np.eye(3), 5, axis=0)
    codes = kernels.k_means(t, 6, np.random.default_rng(0))
    assert len(np.unique(codes)) == 3


# the plane of arrays


def test_clusters_give_the_discrete_information_exactly() -> None:
    kind, t = corners()
    states = [t, t * [1, 0]]
    plane = information_plane(states, kind, kind // 2, clusters=4, corrected=False, rng=0, unit="bits", **QUIET)
    assert plane.input_information[0] == pytest.approx(2.0, abs=1e-12)
    assert plane.output_information == pytest.approx([1.0, 1.0], abs=1e-12)
    with pytest.warns(EstimateWarning, match="at its ceiling"):
        two = information_plane([t * [1, 0]], kind, clusters=2, corrected=False, rng=0, **QUIET)
    assert two.input_information == pytest.approx([np.log(2)], abs=1e-12)
    assert plane.input_entropy == pytest.approx(2.0)
    assert plane.ceiling == pytest.approx(2.0)
    assert two.output_information is None


def test_one_hot_labels_through_a_noisy_channel() -> None:
    """T is the one-hot code of X, replaced by another with probability e: I = log K - h(e) - e log(K - 1)."""
    rng = np.random.default_rng(3)
    n, size, e = 20_000, 5, 0.3
    x = rng.integers(0, size, n)
    moved = np.where(rng.random(n) < e, (x + rng.integers(1, size, n)) % size, x)
    t = np.eye(size)[moved]
    truth = np.log(size) + e * np.log(e) + (1 - e) * np.log(1 - e) - e * np.log(size - 1)
    for options in ({"estimator": "kmeans", "clusters": size}, {"estimator": "binned", "bins": 2}):
        plane = information_plane([t], x, rng=0, **options, **QUIET)
        assert plane.input_information[0] == pytest.approx(truth, abs=0.015)


@pytest.mark.filterwarnings("ignore::infogeo.estimates.EstimateWarning")
def test_the_correction_takes_off_what_independent_labels_give() -> None:
    rng = np.random.default_rng(4)
    t, y = rng.normal(size=(1500, 2)), rng.integers(0, 6, 1500)
    raw, corrected = (
        information_plane([t], y, clusters=12, corrected=c, rng=0, level=None, permutations=20) for c in (False, True)
    )
    assert raw.input_information[0] > 0.01
    assert abs(corrected.input_information[0]) < 0.01
    assert raw.input_null is not None
    assert raw.input_null[0] == pytest.approx(raw.input_information[0], abs=0.008)
    assert any("shuffled labels" in text for text in raw.warnings)


def mixture_information(centers: np.ndarray, labels: np.ndarray, sigma: float, draws: int) -> float:
    """Slow and plain: one state at a time."""
    rng = np.random.default_rng(11)
    found = []
    for i in range(len(centers)):
        for _ in range(draws):
            z = centers[i] + sigma * rng.normal(size=centers.shape[1])
            density = np.exp(-((z - centers) ** 2).sum(axis=1) / (2 * sigma**2))
            found.append(np.log(density[labels == labels[i]].mean() / density.mean()))
    return float(np.mean(found))


@pytest.mark.parametrize("labels", ["distinct", "two"])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.0])
def test_mixture_bounds_bracket_the_information_of_a_known_mixture(labels: str, sigma: float) -> None:
    centers = np.random.default_rng(5).normal(size=(60, 2)) + np.repeat([[0.0, 0.0], [3.0, 0.0]], 30, axis=0)
    codes = np.arange(60) if labels == "distinct" else np.repeat([0, 1], 30)
    truth = mixture_information(centers, codes, sigma, 200)
    plane = information_plane(
        [centers], None if labels == "distinct" else codes, estimator="gaussian_mixture", noise=sigma,
        noise_scale="absolute", draws=100, permutations=0, rng=0, level=None,
    )
    assert plane.input_bounds is not None
    low, high = plane.input_bounds[0]
    assert low - 0.02 <= truth <= high + 0.02
    assert plane.input_information[0] == pytest.approx(truth, abs=0.03)
    assert plane.details[0]["monte_carlo_error"][0] < 0.02


@pytest.mark.filterwarnings("ignore::infogeo.estimates.EstimateWarning")
def test_rare_labels_raise_the_mixture_and_shuffled_ones_show_it() -> None:
    t = np.random.default_rng(0).normal(size=(200, 10))
    labels = np.arange(200) // 2
    plane = information_plane([t], labels, estimator="gaussian_mixture", noise=0.5, rng=0, level=None)
    assert plane.input_null is not None
    assert plane.input_information[0] > 2  # and the labels are independent of the states
    assert plane.input_null[0] == pytest.approx(plane.input_information[0], abs=0.1)
    assert "shuffled labels" in plane.warnings[-1]


def test_two_far_normals_carry_one_bit_and_close_ones_none() -> None:
    t = np.repeat([[0.0], [100.0]], 50, axis=0)
    label = np.repeat(["a", "b"], 50)
    plane = information_plane([t, t * 1e-6], label, estimator="gaussian_mixture", noise=1.0, noise_scale="absolute",
                              rng=0, unit="bits", level=None)
    assert plane.input_information == pytest.approx([1.0, 0.0], abs=1e-5)
    assert plane.input_bounds is not None
    assert plane.input_bounds.reshape(-1) == pytest.approx([1.0, 1.0, 0.0, 0.0], abs=1e-5)


def test_leaving_out_a_block_is_the_same_as_computing_without_it() -> None:
    """The mixture's jackknife works from block sums: here against the slow way on the same noise."""
    rng = np.random.default_rng(6)
    t = rng.normal(size=(40, 2))
    codes, blocks = np.arange(40) % 3, np.arange(40) // 10
    variable = (kernels.Variable("x", codes),)
    rng = np.random.default_rng(9)
    found = kernels.gaussian_mixture(t, variable, blocks, sigma=0.7, draws=1, permutations=0, rng=rng)
    z = t + 0.7 * np.random.default_rng(9).standard_normal(t.shape)
    for b in range(4):
        keep = np.flatnonzero(blocks != b)
        each = []
        for i in keep:
            density = np.exp(-((z[i] - t[keep]) ** 2).sum(axis=1) / (2 * 0.7**2))
            each.append(np.log(density[codes[keep] == codes[i]].mean() / density.mean()))
        assert found.left_out[b, 0] == pytest.approx(np.mean(each), abs=1e-10)


def test_noise_makes_the_information_of_a_linear_layer_what_the_formula_says() -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(3000, 1))
    for estimator in ("ksg", "gaussian", "copula"):
        plane = information_plane([2 * x], x, estimator=estimator, noise=1.0, noise_scale="absolute", rng=1, level=None)
        assert plane.input_information[0] == pytest.approx(0.5 * np.log(5), abs=0.06)
        assert "drawn once" in plane.noise


def test_labels_with_neighbors() -> None:
    kind, t = corners()
    rng = np.random.default_rng(0)
    plane = information_plane([t, rng.normal(size=t.shape)], kind, estimator="ksg", rng=0, level=None)
    assert plane.input_information[0] == pytest.approx(np.log(4), abs=0.05)
    assert abs(plane.input_information[1]) < 0.1


def test_matrix_information_of_labels_and_separated_states_is_the_entropy_of_the_labels() -> None:
    kind, t = corners(80)
    at_corners = np.round(t)
    for x in (kind, None):  # without labels the states themselves are four
        plane = information_plane([at_corners], x, estimator="matrix_renyi", width=0.1, level=None)
        assert plane.input_information[0] == pytest.approx(np.log(4), abs=1e-6)
    wide = information_plane([at_corners], kind, estimator="matrix_renyi", width=100.0, level=None)
    assert wide.input_information[0] < 0.01


def test_a_function_is_an_estimator() -> None:
    kind, t = corners()
    plane = information_plane([t], kind, t, estimator=lambda states, v: float(states.shape[1] + v.ndim), level=None)
    assert (plane.input_information[0], plane.output_information[0]) == (3.0, 4.0)


def test_vectors_are_clustered_too() -> None:
    _, t = corners()
    plane = information_plane([t], t, clusters=4, corrected=False, rng=0, **QUIET)
    assert plane.input_information == pytest.approx([np.log(4)])
    assert plane.input_entropy is None


def test_components_keep_the_leading_ones() -> None:
    kind, t = corners()
    wide = np.hstack([t, 1e-6 * np.random.default_rng(0).normal(size=(400, 30))])
    plane = information_plane([wide], kind, estimator="binned", bins=4, components=2, corrected=False, level=None)
    assert plane.input_information == pytest.approx([np.log(4)], abs=1e-9)


def test_the_jackknife_is_that_of_the_formula() -> None:
    left_out = np.array([[1.0], [2.0], [6.0]])
    measured = kernels.Measured((4.0,), left_out)
    half = 4.302653 * np.sqrt(2 / 3 * ((left_out - 3) ** 2).sum())  # 97.5 % of t with 2 degrees of freedom
    assert _jackknife([measured], 0.95)[0, 0] == pytest.approx([4 - half, 4 + half], rel=1e-6)


def test_intervals_cover_and_dependence_in_groups_widens_them() -> None:
    """Samples repeated ten times: with the groups said the interval is that of the originals, without it too narrow."""
    rng = np.random.default_rng(8)
    x = rng.integers(0, 2, 300)
    t = np.where(rng.random(300) < 0.2, 1 - x, x)[:, None] + 0.01 * rng.normal(size=(300, 1))
    again = np.repeat(np.arange(300), 10)
    widths = []
    for groups in (again, None):
        plane = information_plane([t[again]], x[again], clusters=2, groups=groups, corrected=False, rng=0)
        assert plane.input_interval is not None
        low, high = plane.input_interval[0]
        assert low < plane.input_information[0] < high
        widths.append(high - low)
        if groups is not None:
            assert low < np.log(2) + 0.2 * np.log(0.2) + 0.8 * np.log(0.8) < high
            assert plane.n_groups == 300
    assert widths[0] > 2 * widths[1]


@pytest.mark.filterwarnings("ignore::infogeo.estimates.EstimateWarning")
@pytest.mark.parametrize("options", [
    {"estimator": "kmeans", "clusters": 5}, {"estimator": "binned", "bins": 3},
    {"estimator": "gaussian_mixture", "noise": 1.0}, {"estimator": "ksg", "noise": 0.1},
])
def test_the_same_seed_gives_the_same_numbers(options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    t = rng.normal(size=(2, 300, 2))
    y = (t[0, :, 0] > 0).astype(int)
    first, second = (information_plane(t, y, t[0, :, 1] > 0, rng=5, blocks=4, **options) for _ in range(2))
    assert first.input_information.tolist() == second.input_information.tolist()
    assert first.output_interval.tolist() == second.output_interval.tolist()
    assert first.details == second.details


def test_bits_are_nats_over_log_two_and_layers_may_come_as_an_array() -> None:
    kind, t = corners()
    nats, bits = (
        information_plane(np.stack([t, t]), kind, kind // 2, clusters=4, rng=0, unit=u) for u in ("nats", "bits")
    )
    for name in ("input_information", "output_information", "input_interval", "input_null"):
        assert getattr(bits, name) * np.log(2) == pytest.approx(getattr(nats, name))
    assert bits.ceiling == pytest.approx(2.0)


def test_it_says_what_the_number_is() -> None:
    kind, t = corners()
    plane = information_plane([t], kind, clusters=4, rng=0, names=("kind", "half"))
    assert "cluster" in plane.meaning
    assert plane.noise == "none; the layer is quantized to clusters"
    assert plane.estimator == "k-means, k = 4, Miller–Madow"
    assert plane.summary() == "InformationPlane: 1 layers, kind, k-means, k = 4, Miller–Madow, n = 400, nats"
    columns, rows = plane.rows()
    assert len(columns) == len(rows[0])
    json.loads(plane.to_json())
    with pytest.raises(ValueError, match="read-only"):
        plane.input_information[0] = 1


# what is refused, and what is warned of


def test_binning_that_saturates_is_refused() -> None:
    t = np.random.default_rng(0).normal(size=(500, 20))
    with pytest.raises(DomainError, match=r"layer 3: 30 bins in each of 20 components put 500 samples into 500 cells"):
        information_plane([t], numbers=[3], estimator="binned", level=None)


def test_noise_that_confuses_nothing_is_warned_of() -> None:
    t = np.random.default_rng(0).normal(size=(100, 30))
    with pytest.warns(EstimateWarning, match="hardly confuses any two samples at layers 0"):
        plane = information_plane([t], estimator="gaussian_mixture", noise=0.05, rng=0, level=None)
    assert plane.input_information[0] == pytest.approx(np.log(100), abs=0.01)
    assert plane.warnings


def test_too_few_clusters_for_the_labels_are_warned_of() -> None:
    kind, t = corners()
    with pytest.warns(EstimateWarning, match="at its ceiling, log k = 0.693"):
        information_plane([t * [1, 0]], kind, clusters=2, rng=0, level=None)


T = np.random.default_rng(0).normal(size=(20, 3))
Y = np.arange(20) % 2


@pytest.mark.parametrize(("layers", "options", "error", "words"), [
    ([], {}, ShapeError, "found no layer"),
    (T, {}, ShapeError, r"found shape \(20, 3\), wanted \(layers, samples, components\)"),
    ([T, T[:10]], {}, ShapeError, "found 10 samples, wanted 20"),
    ([T[:2]], {}, ShapeError, "at least 4"),
    ([T[:, :0]], {}, ShapeError, "wanted"),
    ([np.where(T > 2, np.nan, T) * np.nan], {}, DomainError, "must be finite"),
    ([1e200 * T], {}, DomainError, r"layers\[0\]: found numbers up to .*e\+200, whose squares"),
    ([1e-200 * T], {}, DomainError, "whose squares are out of the range"),
    ([T], {"x": Y.astype(float)}, ArgumentError, r"X: found whole numbers as float64; give X.astype\(int\)"),
    ([T], {"x": Y, "names": ("X",)}, ArgumentError, "names: found"),
    ([T], {"x": Y, "estimator": "matrix_renyi", "width": -1.0}, ArgumentError, "width: found -1.0"),
    ([T], {"x": Y, "estimator": lambda t, x: "two"}, ArgumentError, "returned 'two', wanted a number"),
    ([T], {"x": Y[:10]}, ShapeError, r"wanted \(20,\) labels"),
    ([T], {"x": T[None]}, ShapeError, "labels or"),
    ([T], {"x": np.full(20, 1j)}, DomainError, "complex"),
    ([T], {"estimator": "mine"}, ArgumentError, "wanted binned, copula"),
    ([T], {"estimator": "ksg"}, ArgumentError, "X: ksg needs labels or vectors"),
    ([T], {"x": Y, "estimator": "gaussian"}, ArgumentError, "needs vectors"),
    ([T], {"x": T, "estimator": "gaussian_mixture", "noise": 1.0}, ArgumentError, "needs labels"),
    ([T], {"estimator": "gaussian_mixture"}, ArgumentError, "give noise="),
    ([T], {"noise": 0.0}, DomainError, "positive finite"),
    ([T], {"noise": np.inf}, DomainError, "positive finite"),
    ([T], {"noise_scale": "db"}, ArgumentError, "'layer' or 'absolute'"),
    ([np.ones((20, 2))], {"noise": 1.0}, DomainError, "layer 0 is constant"),
    ([T], {"clusters": 11}, ArgumentError, "at most half"),
    ([T], {"clusters": 1}, ArgumentError, "at least 2"),
    ([T], {"components": 4}, ArgumentError, "components: found 4"),
    ([T], {"groups": Y}, ArgumentError, "wanted at least 3 for an interval"),
    ([T], {"groups": Y[:5]}, ShapeError, "one for each sample"),
    ([T], {"level": 1.5}, ArgumentError, "between 0 and 1"),
    ([T], {"blocks": 1}, ArgumentError, "at least 2"),
    ([T], {"numbers": [1, 2]}, ShapeError, "one for each of 1 layers"),
    ([T], {"unit": "hartley"}, ArgumentError, "'nats' or 'bits'"),
    ([T], {"rng": "x"}, ArgumentError, "rng"),
    ([np.ones((20, 2))], {"x": Y, "estimator": "matrix_renyi"}, DomainError, "median distance is zero"),
])
def test_bad_input(layers: Any, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        information_plane(layers, options.pop("x", None), **options)


def test_tensors_that_record_gradients_are_refused() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    with pytest.raises(DomainError, match="records a gradient"):
        information_plane([torch.ones((20, 2), requires_grad=True)])


@pytest.mark.filterwarnings("ignore::infogeo.estimates.EstimateWarning")
@pytest.mark.parametrize("estimator", ["gaussian", "ksg"])
def test_noise_of_the_seed_that_made_the_states_is_still_noise(estimator: Any) -> None:
    t = np.random.default_rng(0).standard_normal((500, 1))
    plane = information_plane([t], t, estimator=estimator, noise=1.0, level=None, rng=0)
    assert plane.input_information[0] == pytest.approx(0.5 * np.log(2), abs=0.1)


def test_mixture_noise_of_the_seed_that_made_the_states_is_still_noise() -> None:
    t = np.random.default_rng(0).standard_normal((300, 2))
    same, *others = (information_plane([t], estimator="gaussian_mixture", noise=1.0, draws=1, level=None,
                                       rng=seed).input_information[0] for seed in range(6))
    assert same == pytest.approx(np.mean(others), abs=6 * np.std(others))


def test_errors_and_warnings_call_layer_and_variable_by_name() -> None:
    t = np.random.default_rng(1).normal(size=(50, 2))
    with pytest.raises(DomainError, match=r"layer 7: the states: column 0 .* and those of word, up to"):
        information_plane([t], t, estimator="gaussian", names=("word", "Y"), numbers=[7], level=None)
    with pytest.warns(EstimateWarning, match="layers 0: the states: all samples are equal"):
        information_plane([np.ones((50, 2))], t, estimator="ksg", level=None)


def test_a_constant_layer_carries_nothing() -> None:
    plane = information_plane([np.ones((20, 2))], Y, clusters=2, corrected=False, rng=0, level=None)
    assert plane.input_information == pytest.approx([0.0], abs=1e-12)


def test_a_path_holds_planes_of_one_kind() -> None:
    kind, t = corners()

    def plane(name: str, **options: Any) -> InformationPlane:
        from dataclasses import replace

        return replace(information_plane([t], kind, clusters=4, rng=0, level=None, **options), name=name)

    path = InformationPath(planes=(plane("a"), plane("b")))
    assert [row[0] for row in path.rows()[1]] == ["a", "b"]
    for planes, words in (((), "found none"), ((plane("a"), plane("a")), "same name"),
                          ((plane("a"), plane("b", unit="bits")), "unit 'bits'")):
        with pytest.raises(ArgumentError, match=words):
            InformationPath(planes=planes)


# models


TEXTS = ["The old woman gave the hungry dog a bone.", "The dog carried the bone to the river.",
         "In the morning the boy saw the dog at the river.", "The woman and the boy went to the house of the old man."]


def test_samples_are_tokens_with_the_next_one_of_the_same_text(bundled: Any) -> None:
    from infogeo_adapters import capture_activations, model_information_plane

    acts = capture_activations(bundled, TEXTS, attention=False)
    seen: list[tuple[Any, Any]] = []

    def spy(t: Any, labels: Any) -> float:
        seen.append((t, labels))
        return 0.0

    plane = model_information_plane(bundled, TEXTS, estimator=spy, level=None)
    assert all(a.special.tolist() == [True, *[False] * (len(a.tokens) - 1)] for a in acts)
    own = np.concatenate([a.token_ids[1:-1] for a in acts])
    following = np.concatenate([a.token_ids[2:] for a in acts])
    assert len(seen) == 2 * 7
    assert (np.unique(own, return_inverse=True)[1] == seen[0][1]).all()
    assert (np.unique(following, return_inverse=True)[1] == seen[1][1]).all()
    assert np.array_equal(seen[6][0], np.concatenate([a.hidden_states[3][1:-1] for a in acts]).astype(np.float64))
    assert plane.layers == tuple(range(7))
    assert plane.n == len(own)
    assert plane.n_groups == 4


def test_special_tokens_are_no_samples(tiny: Any) -> None:
    from infogeo_adapters import capture_activations, model_information_plane

    model = tiny("bert")
    acts = capture_activations(model, TEXTS, attention=False)
    plane = model_information_plane(model, acts, target=None, estimator=lambda t, y: 1.0, level=None)
    assert plane.n == sum(int((~a.special).sum()) for a in acts)
    assert plane.output_information is None
    following = model_information_plane(model, acts, estimator=lambda t, y: 1.0, level=None)
    assert following.n == plane.n - len(acts)


@pytest.mark.filterwarnings("ignore::infogeo.estimates.EstimateWarning")
def test_labels_by_text_and_by_token(bundled: Any) -> None:
    from infogeo_adapters import capture_activations, model_information_plane

    acts = capture_activations(bundled, TEXTS, attention=False)
    by_text = model_information_plane(bundled, acts, target=[0, 0, 1, 1], clusters=3, rng=0)
    by_token = model_information_plane(
        bundled, acts, target=[np.full(len(a.tokens), i // 2) for i, a in enumerate(acts)], clusters=3, rng=0
    )
    assert by_text.output_information.tolist() == by_token.output_information.tolist()
    assert by_text.n == sum(len(a.tokens) - 1 for a in acts)
    as_array = model_information_plane(bundled, acts, target=np.array([0, 0, 1, 1]), clusters=3, rng=0)
    assert as_array.output_information.tolist() == by_text.output_information.tolist()
    own = model_information_plane(bundled, acts, target="identity", clusters=5, rng=0)
    assert own.input_information.tolist() == own.output_information.tolist()
    distinct = model_information_plane(bundled, acts, inputs="distinct", target=None, clusters=3, corrected=False)
    assert (distinct.input_information <= np.log(3)).all()


@pytest.mark.filterwarnings("ignore::infogeo.estimates.EstimateWarning")
def test_only_frequent_tokens(bundled: Any) -> None:
    from infogeo_adapters import model_information_plane

    plane = model_information_plane(bundled, TEXTS, target=None, frequent=2, clusters=2, rng=0, level=None)
    assert plane.input_entropy is not None
    assert plane.input_entropy <= np.log(2) + 1e-12
    with pytest.raises(ArgumentError, match="samples are left"):
        model_information_plane(bundled, TEXTS, frequent=1, clusters=2)


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"texts": "one text"}, TextError, "list of at least one"), ({"texts": []}, TextError, "list of at least one"),
    ({"target": "previous"}, ArgumentError, "'next', 'identity'"), ({"inputs": "words"}, ArgumentError, "'distinct'"),
    ({"target": 3}, ArgumentError, "found 3"), ({"target": [1]}, ShapeError, "1 entries for 4 texts"),
    ({"target": [[1, 2], 0, 0, 0]}, ShapeError, r"target\[0\]"),
])
def test_bad_input_of_models(bundled: Any, options: dict[str, Any], error: type[Exception], words: str) -> None:
    from infogeo_adapters import model_information_plane

    with pytest.raises(error, match=words):
        model_information_plane(bundled, options.pop("texts", TEXTS), **options)


def test_activations_of_two_models_are_no_layer(bundled: Any, tiny: Any) -> None:
    from infogeo_adapters import capture_activations, model_information_plane

    mixed = [capture_activations(m, TEXTS[0], attention=False) for m in (bundled, tiny("gpt2"))]
    with pytest.raises(ShapeError, match="2 different shapes"):
        model_information_plane(bundled, mixed)


def test_words_on_the_plane_are_what_the_lens_says(bundled: Any) -> None:
    from infogeo_adapters import capture_activations, logit_lens, read_out, words_on_plane

    text = TEXTS[0]
    placed, lens = words_on_plane(bundled, text), logit_lens(bundled, text)
    assert placed.words == lens.words
    assert placed.entropy == pytest.approx(lens.word_entropy(), abs=1e-6)
    acts = capture_activations(bundled, text, attention=False)
    last = lens.last_tokens()
    q0, q = (np.exp(read_out(bundled, acts, layer)[last]) for layer in (0, 4))
    assert placed.geodesic[4] == pytest.approx(2 * np.arccos(np.sqrt(q0 * q).sum(axis=1)), abs=1e-6)
    mean = q.mean(axis=0)
    assert placed.information[4] == pytest.approx((q * np.log(q / mean)).sum(axis=1), abs=1e-9)
    assert (placed.information.mean(axis=1) <= np.log(len(placed.words)) + 1e-9).all()
    assert placed.surprisal[4, 0] == pytest.approx(-np.log(q[0, acts.token_ids[last[0] + 1]]))
    assert np.isnan(placed.surprisal[:, -1]).all()
    assert (np.diff(placed.path, axis=0) >= 0).all()
    q3 = np.exp(read_out(bundled, acts, 3)[last])
    assert np.diff(placed.path, axis=0)[3] == pytest.approx(2 * np.arccos(np.sqrt(q3 * q).sum(axis=1)), abs=1e-6)
    assert (placed.geodesic <= placed.path + 1e-9).all()
    bits = words_on_plane(bundled, acts, unit="bits")
    assert bits.information * np.log(2) == pytest.approx(placed.information)
    assert bits.path.tolist() == placed.path.tolist()
    columns, rows = placed.rows()
    assert len(rows) == placed.entropy.size
    assert len(columns) == len(rows[0])
    with pytest.raises(ArgumentError, match="wanted entropy"):
        placed.quantity("capacity")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="one text"):
        words_on_plane(bundled, 3)  # type: ignore[arg-type]


def test_a_model_that_fills_in_blanks_has_no_surprisal(tiny: Any) -> None:
    from infogeo_adapters import words_on_plane

    placed = words_on_plane(tiny("bert"), TEXTS[0])
    assert np.isnan(placed.surprisal).all()
    assert np.isfinite(placed.information).all()
