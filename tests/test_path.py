"""The whole path at once: the same words, distances and graphs however a sentence reaches the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infogeo import (
    compare_graphs,
    compare_layers,
    component_normals,
    cosine_distance,
    euclidean_distance,
    fisher_rao_distance,
    jeffreys_divergence,
    minimum_spanning_tree,
    nearest_neighbor_graph,
    pairwise,
    point_masses,
    readout_categoricals,
    shared_covariance_normals,
)
from infogeo.errors import ArgumentError, DomainError

pytest.importorskip("transformers", reason="needs the extra: pip install 'infogeo[transformers]'")

from infogeo_adapters import (
    capture_activations,
    capture_background,
    capture_encoder_decoder,
    head_average,
    read_out,
)
from infogeo_adapters.transformers.loading import LanguageModel

SENTENCE = "All the children ran home because it was raining."
OTHERS = ["She sells sea shells.", "Don't stop! said the old man, it's only a mile to the well-known house over there."]
BACKGROUND = " ".join([SENTENCE, *OTHERS, "The quick brown fox jumps over the lazy dog near the riverbank."])


def distances(model: LanguageModel, activations: Any, background: Any) -> dict[str, Any]:
    """Every construction of one text under its own measures, at a middle layer."""
    made = {
        "univariate": pairwise(fisher_rao_distance, component_normals(activations, 2)),
        "shared": pairwise(fisher_rao_distance, shared_covariance_normals(activations, 2, background)),
        "jeffreys": pairwise(jeffreys_divergence, shared_covariance_normals(activations, 2, background)),
        "cosine": pairwise(cosine_distance, point_masses(activations, 2)),
        "euclidean": pairwise(euclidean_distance, point_masses(activations, 2)),
    }
    if model.has_head and model.kind != "encoder-decoder":
        predictions = readout_categoricals(activations, 2, read_out(model, activations, 2))
        made["categorical"] = pairwise(fisher_rao_distance, predictions)
    return made


@pytest.mark.parametrize("side", ["left", "right"])
def test_alone_in_a_batch_and_padded_on_either_side(any_model, side, monkeypatch):
    monkeypatch.setattr(any_model.tokenizer, "padding_side", side)
    background = capture_background(any_model, BACKGROUND)
    alone = capture_activations(any_model, SENTENCE)
    batched = capture_activations(any_model, [OTHERS[0], SENTENCE, OTHERS[1]])[1]
    assert alone.words == batched.words
    assert alone.tokens == batched.tokens
    one, other = (distances(any_model, a, background) for a in (alone, batched))
    assert set(one) >= {"univariate", "shared", "cosine", "euclidean"}
    compared = []
    for name, matrix in one.items():
        scale = matrix.values.max()
        assert scale > 0, name
        # cosine and small univariate distances are differences of float32 states: an absolute part remains
        np.testing.assert_allclose(matrix.values, other[name].values, rtol=2e-4, atol=2e-5 * scale, err_msg=name)
        gaps = np.diff(np.unique(matrix.values[np.triu_indices(len(matrix.words), 1)]))
        if gaps.min() > 1e-4 * scale:  # no near ties that rounding may order either way
            compared.append(name)
            for build in (minimum_spanning_tree, lambda x: nearest_neighbor_graph(x, 2)):
                assert build(matrix).edge_set() == build(other[name]).edge_set(), name
    assert compared, "every matrix has near ties, so no graph was compared"
    np.testing.assert_allclose(alone.word_attention(), batched.word_attention(), atol=1e-5)


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_the_decoder_of_a_pair_goes_the_whole_way_too(tiny, name):
    model = tiny(name)
    alone = capture_encoder_decoder(model, OTHERS[0], SENTENCE).decoder
    batched = capture_encoder_decoder(model, [OTHERS[1], OTHERS[0]], [OTHERS[0], SENTENCE])[1].decoder
    assert alone.words == batched.words == capture_activations(model, SENTENCE).words
    for layer in range(3):
        one, other = (
            pairwise(fisher_rao_distance, readout_categoricals(acts, layer, read_out(model, acts, layer)))
            for acts in (alone, batched)
        )
        assert one.values.max() > 0.01
        np.testing.assert_allclose(one.values, other.values, rtol=1e-3, atol=1e-4)
        assert minimum_spanning_tree(one).edges.shape[0] == len(alone.words) - 1
    looks = head_average(alone, 2)
    np.testing.assert_allclose(looks.values, head_average(batched, 2).values, atol=1e-5)
    assert np.triu(looks.values, 1).max() == 0, "a word of the target sees no later one"


def test_graphs_of_the_bundled_model_do_not_depend_on_the_batch(bundled):
    alone = capture_activations(bundled, SENTENCE)
    batched = capture_activations(bundled, [*OTHERS, SENTENCE])[2]
    background = capture_background(bundled, BACKGROUND)
    trees = [minimum_spanning_tree(distances(bundled, a, background)["shared"]) for a in (alone, batched)]
    assert trees[0].edge_set() == trees[1].edge_set()
    assert trees[0].n_edges == len(alone.words) - 1
    average = [minimum_spanning_tree(head_average(a, 3).symmetrized()) for a in (alone, batched)]
    assert average[0].edge_set() == average[1].edge_set()


def test_a_batch_that_leaked_would_be_noticed(bundled):
    # the comparison above must be able to fail: another sentence around the words changes their distances
    alone = capture_activations(bundled, SENTENCE)
    inside = capture_activations(bundled, f"{OTHERS[0]} {SENTENCE}")
    k = len(inside.words) - len(alone.words)
    assert inside.words[k:] == alone.words
    whole = pairwise(fisher_rao_distance, component_normals(inside, 2)).values[k:, k:]
    part = pairwise(fisher_rao_distance, component_normals(alone, 2)).values
    assert not np.allclose(whole, part, rtol=1e-2)


def test_from_sentence_to_agreement(bundled):
    activations = capture_activations(bundled, SENTENCE)
    background = capture_background(bundled, BACKGROUND)
    matrix = pairwise(fisher_rao_distance, shared_covariance_normals(activations, 3, background))
    table = compare_graphs(matrix, [head_average(activations, b) for b in (1, 2, 3)], permutations=99)
    values = {(c.statistic, c.layer): c for c in table}
    assert {layer for _, layer in values} == {1, 2, 3}
    for c in table:
        assert np.isfinite(c.value)
        assert -1 <= c.value <= 1
        if c.p_value is not None:
            assert 0 < c.p_value <= 1


def test_agreement_of_layers_refuses_what_does_not_fit(bundled):
    activations, other = capture_activations(bundled, [SENTENCE, OTHERS[0]])
    distances = pairwise(fisher_rao_distance, component_normals(other, 2))
    with pytest.raises(ArgumentError, match="found no distances"):
        compare_layers([], activations)
    with pytest.raises(ArgumentError, match="place 0 are of other words"):
        compare_layers([distances], activations)
    short = capture_activations(bundled, "Go home")
    with pytest.raises(DomainError, match="wanted at least three"):
        compare_layers([pairwise(fisher_rao_distance, component_normals(short, 2))], short)
