"""The structural probe finds trees that are planted in vectors, and none where there are none."""

from __future__ import annotations

import numpy as np
import pytest

from infogeo import DependencyTree, score_closeness
from infogeo._trees import random_trees
from infogeo.errors import ArgumentError, DomainError, ShapeError
from infogeo_adapters import StructuralProbe, choose_structural_probe, fit_structural_probe
from infogeo_adapters.treebank._probe_training import BATCH, LEAST_RATE, PATIENCE, START, Adam, Part
from infogeo_adapters.treebank.families import SentenceReading
from infogeo_adapters.treebank.probe import StructuralProbes

WIDTH = 24


def random_sentence(rng, n):
    """A uniformly drawn tree, its first word as the root."""
    edges = random_trees(n, 1, rng)[0]
    heads, reached = np.full(n, -1), {0}
    while len(reached) < n:
        for a, b in (*edges, *edges[:, ::-1]):
            if a in reached and b not in reached:
                heads[b] = a
                reached.add(int(b))
    return DependencyTree.from_words([f"w{i}" for i in range(n)], heads)


def planted(rng, trees, *, noise=0.0):
    """Vectors that a linear map takes to points whose squared distances are the path lengths, and others beside them.

    In a tree the path lengths are squared distances: of points that differ from their parent by a unit vector of their
    own.
    """
    mix = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
    found = []
    for tree in trees:
        steps = np.zeros((len(tree), WIDTH))
        axes = rng.permutation(12)
        for i in range(len(tree)):
            j = i
            while tree.heads[j] >= 0:
                steps[i, axes[j % 12]] += 1
                j = int(tree.heads[j])
        steps[:, 12:] = rng.normal(size=(len(tree), 12))
        found.append(5 + steps @ mix + noise * rng.normal(size=steps.shape))
    return found


@pytest.fixture(scope="module")
def trees():
    rng = np.random.default_rng(5)
    return [random_sentence(rng, int(n)) for n in rng.integers(3, 12, size=240)]


@pytest.fixture(scope="module")
def vectors(trees):
    return planted(np.random.default_rng(6), trees)


def uuas(probe, vectors, trees):
    hits = total = 0
    for distances, tree in zip(probe.distances(vectors), trees, strict=True):
        scores = score_closeness(-distances[None], tree)
        hits, total = hits + int(scores.hits.sum()), total + len(scores.edges)
    return hits / total


def test_it_recovers_a_planted_tree_on_sentences_it_has_not_seen(trees, vectors):
    probe = fit_structural_probe(vectors[:200], trees[:200], rank=16)
    assert isinstance(probe, StructuralProbe)
    assert uuas(probe, vectors[200:], trees[200:]) > 0.97
    plain = np.mean([
        score_closeness(-((v[:, None] - v) ** 2).sum(-1)[None], t).attachment[0]
        for v, t in zip(vectors[200:], trees[200:], strict=True)
    ])
    assert plain < 0.6  # the vectors themselves do not show the trees
    assert probe.n_train + probe.n_dev == 200
    assert probe.n_dev == 20
    assert probe.dev_attachment > 0.95
    predicted = np.concatenate([d.ravel() for d in probe.distances(vectors[200:])])
    wanted = np.concatenate([t.distances().ravel() for t in trees[200:]])
    assert np.corrcoef(predicted, wanted)[0, 1] > 0.95


def test_it_learns_nothing_from_trees_of_other_sentences(trees, vectors):
    rng = np.random.default_rng(0)
    others = [random_sentence(rng, len(tree)) for tree in trees]
    probe = fit_structural_probe(vectors[:200], others[:200], rank=16)
    chance = np.mean([2 / len(t) for t in others[200:]])  # an edge of one random tree is in another
    assert uuas(probe, vectors[200:], others[200:]) < chance + 0.1
    assert uuas(probe, vectors[200:], trees[200:]) < 0.8


def test_a_seed_decides_everything(trees, vectors):
    one, same, other = (
        fit_structural_probe(vectors[:60], trees[:60], rank=4, max_epochs=5, rng=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(one.matrix, same.matrix)
    assert np.array_equal(one.dev_loss, same.dev_loss)
    assert not np.array_equal(one.matrix, other.matrix)


def test_loss_and_gradient_are_those_of_a_loop_over_pairs(trees, vectors):
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    part = Part.of(vectors[:7], trees[:7])
    matrix = np.random.default_rng(3).normal(size=(5, WIDTH)) * 0.1
    chosen = np.array([4, 0, 6])
    loss, gradient = part.step(matrix, chosen)
    by_hand = torch.tensor(matrix, requires_grad=True)
    total = 0.0
    for s in chosen:
        points, n = torch.tensor(vectors[s]) @ by_hand.T, len(trees[s])
        gold = trees[s].distances()
        for i in range(n):
            for j in range(n):
                total = total + abs(gold[i, j] - ((points[i] - points[j]) ** 2).sum()) / n**2 / len(chosen)
    total.backward()
    assert loss == pytest.approx(float(total.detach()), rel=1e-10)
    np.testing.assert_allclose(gradient, by_hand.grad.numpy(), rtol=1e-8, atol=1e-10)


def test_steps_are_those_of_adam():
    torch = pytest.importorskip("torch", reason="needs the extra: pip install 'infogeo[transformers]'")
    parameter = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer, ours, at = torch.optim.Adam([parameter], lr=0.01), Adam((3,)), np.zeros(3)
    for gradient in np.random.default_rng(0).normal(size=(6, 3)):
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        at = at - 0.01 * ours.direction(gradient)
    np.testing.assert_allclose(at, parameter.detach().numpy(), rtol=1e-12)


def test_the_record_says_how_training_went(trees, vectors):
    probe = fit_structural_probe(vectors, trees, rank=16, max_epochs=3, layer=2)
    assert not probe.converged
    assert len(probe.dev_loss) == 3
    assert "not converged after 3 epochs" in probe.summary()
    assert probe.label == "layer 2, rank 16, not converged"
    long = fit_structural_probe(vectors, trees, rank=16, max_epochs=200)
    assert long.converged
    assert long.best_epoch <= len(long.dev_loss) - 3
    assert "not converged" not in long.label
    assert long.dev_loss[long.best_epoch - 1] <= long.dev_loss.min() + 1e-4
    assert long.learning_rates[0] == 1e-3
    assert long.learning_rates[-1] == pytest.approx(1e-5)
    columns, rows = long.rows()
    assert columns[:3] == ("epoch", "train_loss", "dev_loss")
    assert len(rows) == len(long.dev_loss)
    assert long.to_dict()["converged"] is True
    assert long.source.seed == 0


def test_vectors_of_any_size_and_place_give_the_same_distances(trees, vectors):
    one = fit_structural_probe(vectors[:60], trees[:60], rank=4, max_epochs=4)
    moved = [1000.0 + 1024.0 * v for v in vectors]
    other = fit_structural_probe(moved[:60], trees[:60], rank=4, max_epochs=4)
    for a, b in zip(one.distances(vectors[60:70]), other.distances(moved[60:70]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_distances_are_those_of_the_map(trees, vectors):
    probe = fit_structural_probe(vectors[:40], trees[:40], rank=3, max_epochs=2)
    for v, d in zip(vectors[40:44], probe.distances(vectors[40:44]), strict=True):
        slow = [[((probe.matrix @ (a - b)) ** 2).sum() for b in v] for a in v]
        np.testing.assert_allclose(d, slow, atol=1e-9)
        assert np.array_equal(d, d.T)
        assert not d.diagonal().any()
    assert probe.distances([np.zeros((1, WIDTH))])[0].tolist() == [[0.0]]


def test_layer_and_rank_are_chosen_where_it_does_best(trees, vectors):
    rng = np.random.default_rng(1)
    noise = [rng.normal(size=v.shape) for v in vectors]
    found = choose_structural_probe({0: noise, 3: vectors, 4: noise}, trees, ranks=[1, 16], max_epochs=60)
    assert (found.layer, found.rank) == (3, 16)
    assert choose_structural_probe({0: vectors}, trees[:240], ranks=[500], max_epochs=2).rank == WIDTH


def test_sentences_of_one_word_are_passed_over(trees, vectors):
    alone = DependencyTree.from_words(["Yes"], [-1])
    some = [*vectors[:30], np.ones((1, WIDTH))], [*trees[:30], alone]
    assert fit_structural_probe(*some, rank=2, max_epochs=1).n_train == 27


@pytest.mark.parametrize(("change", "error", "match"), [
    ({"rank": 0}, ArgumentError, "rank"),
    ({"rank": WIDTH + 1}, ArgumentError, "at most the width of the vectors, 24"),
    ({"max_epochs": 0}, ArgumentError, "max_epochs"),
    ({"rng": -1}, ArgumentError, "rng"),
    ({"dev": 0.0}, ArgumentError, "dev: found 0"),
    ({"dev": 1}, ArgumentError, "dev: found 1"),
])
def test_arguments_are_checked(trees, vectors, change, error, match):
    with pytest.raises(error, match=match):
        fit_structural_probe(vectors[:5], trees[:5], **{"rank": 2, **change})


def test_data_are_checked(trees, vectors):
    with pytest.raises(ShapeError, match="5 arrays for 4 trees"):
        fit_structural_probe(vectors[:5], trees[:4], rank=2)
    with pytest.raises(ShapeError, match=r"vectors\[1\]"):
        fit_structural_probe([vectors[0], vectors[1][1:]], trees[:2], rank=2)
    with pytest.raises(ShapeError, match=r"vectors\[1\]"):
        fit_structural_probe([vectors[0], vectors[1][:, 1:]], trees[:2], rank=2)
    with pytest.raises(DomainError, match=r"vectors\[0\]"):
        fit_structural_probe([np.full_like(vectors[0], np.nan), vectors[1]], trees[:2], rank=2)
    with pytest.raises(DomainError, match="same vector"):
        fit_structural_probe([np.ones_like(v) for v in vectors[:5]], trees[:5], rank=2)
    with pytest.raises(ArgumentError, match="found 1 with two words"):
        fit_structural_probe(vectors[:1], trees[:1], rank=2)
    with pytest.raises(ArgumentError, match="found 0 and 1"):
        choose_structural_probe({}, trees)
    with pytest.raises(ShapeError):
        fit_structural_probe(vectors[:9], trees[:9], rank=2, max_epochs=1).distances([np.ones((2, 3))])


def test_constants_are_those_the_docstring_names():
    assert (BATCH, START, PATIENCE, LEAST_RATE) == (20, 0.1, 3, 1e-5)


def test_training_begins_at_a_tenth_of_the_path_lengths(trees, vectors):
    slow = sum(t.distances().sum() for t in trees[:30])
    part = Part.of(vectors[:30], trees[:30])
    matrix = np.random.default_rng(0).normal(size=(3, WIDTH))
    squares = sum((((v[:, None] - v) @ matrix.T) ** 2).sum() for v in vectors[:30])
    assert part.stretch(matrix) == pytest.approx(squares / slow)
    centered = np.concatenate([v - v.mean(axis=0) for v in vectors[:30]])
    assert part.scale() == pytest.approx(np.sqrt((centered**2).mean()))


def test_the_family_reads_all_layers_and_learns_on_one_part(tiny, trees):
    from infogeo_adapters import capture_activations

    model = tiny("bert")
    sentence = "The quick brown fox jumps over the lazy dog."
    readings = []
    for words in (sentence, "She sells sea shells.", "The old man stopped.") * 3:
        acts = capture_activations(model, words)
        n = len(acts.words)
        tree = DependencyTree.from_words(acts.words, [-1, *range(n - 1)])
        readings.append(SentenceReading(tree=tree, activations=acts))
    family = StructuralProbes(model, ranks=(4,), max_epochs=3)
    family.prepare(model, [r.activations.text for r in readings])
    features = family.features(model, readings)
    assert [f.shape for f in features[:2]] == [(4, 10, 32), (4, 5, 32)]
    assert features[0].dtype == np.float32
    np.testing.assert_allclose(features[0][2], readings[0].activations.word_vectors(2), atol=1e-6)
    fitted = family.fit(features, [r.tree for r in readings])
    layer = fitted.probe.layer
    closeness = fitted.closeness(features[:1])[0]
    np.testing.assert_allclose(closeness[0], -fitted.probe.distances([features[0][layer]])[0])
    assert closeness.shape == (1, 10, 10)
    assert fitted.label.startswith(f"layer {layer}, rank 4")
    assert family.name == "structural probe"
    assert family.kind == "supervised"
    only = StructuralProbes(model, ranks=(4,), layers=(3,), max_epochs=2)
    assert only.fit(only.features(model, readings), [r.tree for r in readings]).probe.layer == 3
    with pytest.raises(ArgumentError, match="layers"):
        StructuralProbes(model, layers=(9,))
