"""The record of what a lens saw: its checks, views and tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from profile_cases import make_profile

import infogeo
from infogeo import Source
from infogeo.entropy_profile import EntropyProfile
from infogeo.errors import ArgumentError, DomainError, ShapeError

ENTROPY = np.arange(10.0).reshape(2, 5) / 10


def test_it_is_a_public_name() -> None:
    assert infogeo.EntropyProfile is EntropyProfile


def test_the_entropy_of_a_word_is_that_at_its_last_token() -> None:
    profile = make_profile(
        ENTROPY, tokens=("<s>", "un", "able", ".", "x"), token_words=[-1, 0, 0, 1, -1], words=("unable", "."),
    )
    assert profile.last_tokens().tolist() == [2, 3]
    np.testing.assert_array_equal(profile.word_entropy(), ENTROPY[:, [2, 3]])
    columns, rows = profile.rows()
    assert columns[:5] == ("layer", "stage", "position", "token", "entropy")
    assert rows[7][:5] == (1, "resid_post", 2, "able", 0.7)
    assert rows[7][-2:] == ("a", 0.5)


def test_entropies_lie_between_zero_and_the_logarithm_of_the_outcomes() -> None:
    with pytest.raises(DomainError, match=r"entropy: values must lie between 0 and log\(2\)"):
        make_profile(np.full((2, 5), 0.8), n_outcomes=2)
    with pytest.raises(DomainError, match=r"renyi\[2\]: values must lie"):
        make_profile(ENTROPY, renyi={2: np.full((2, 5), -0.1)})
    with pytest.raises(DomainError, match=r"entropy: entry \(0, 0\) is nan"):
        make_profile(np.full((2, 2), np.nan))
    with pytest.raises(DomainError, match="entropy: found dtype object, wanted real numbers"):
        make_profile(np.zeros((2, 2)).astype(object))


def test_lists_are_taken_and_read_only_copies_kept() -> None:
    given = np.zeros((2, 2), dtype=np.float32)
    for entropy in (given, given.tolist()):
        made = make_profile(entropy, token_words=[-1, 0], words=("a",))
        assert (made.entropy.dtype, made.token_words.dtype) == (float, np.int64)
        assert not made.entropy.flags.writeable
    assert given.flags.writeable
    with pytest.raises(DomainError, match="token_words: found dtype float64, wanted whole numbers"):
        make_profile(given, token_words=[0.0, 1.0])
    with pytest.raises(ShapeError, match="rank"):
        make_profile(given, rank=np.zeros((2, 3), dtype=int))
    with pytest.raises(ArgumentError, match="row_stages: found 'after'"):
        make_profile(given, row_stages=("embedding", "after"))


@pytest.mark.parametrize(("fields", "said"), [
    ({"row_layers": [0, 7]}, "row_layers: values must lie between 0 and 1"),
    ({"rank": np.full((2, 5), 11)}, "rank: values must lie between 0 and 10"),
    ({"top_probabilities": np.full((2, 5, 1), 1.5)}, "top_probabilities: values must lie between 0 and 1"),
    ({"top_ids": np.zeros((2, 5, 0), dtype=int), "top_probabilities": np.zeros((2, 5, 0))}, "k at least 1"),
    ({"top_ids": np.zeros((2, 5, 2), dtype=int)}, "found shapes"),
    ({"outcome_names": {}}, "outcome 0 of top_ids has no name"), ({"n_outcomes": 0}, "n_outcomes: found 0"),
    ({"n_layers": None}, "n_layers: found None"), ({"predicts": "last"}, "predicts: found 'last'"),
    ({"top_p": 0.5}, "top_p and set_size belong together"), ({"renyi": {-1: ENTROPY}}, "the order -1"),
    ({"renyi": {"a": ENTROPY}}, "renyi: found 'a'"), ({"tokens": "abcde"}, "tokens: found str"),
    ({"words": ("a",)}, "token_words: wanted -1 and"), ({"words": ("a",) * 6}, "token_words: wanted -1 and"),
])
def test_fields_that_do_not_fit_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises((ArgumentError, DomainError, ShapeError), match=said):
        make_profile(ENTROPY, **fields)


def test_a_true_token_that_is_no_outcome_counts_for_no_share() -> None:
    profile = make_profile(ENTROPY, rank=[[1, 2, 0, 0, 0]] * 2, target_ids=[3, 4, 5, 6, -1])
    columns, lines = profile.by_row()
    assert dict(zip(columns, lines[0], strict=True))["rank_1_share"] == 0.5


def test_columns_of_orders_that_are_nearly_one_have_names_of_their_own() -> None:
    profile = make_profile(ENTROPY, renyi={1: ENTROPY, 1.0000001: ENTROPY, 2.0: ENTROPY, math.inf: ENTROPY})
    assert {"renyi_1", "renyi_1.0000001", "renyi_2", "renyi_inf"} <= {*profile.rows()[0]}


def test_units() -> None:
    profile = make_profile(ENTROPY, n_outcomes=8)
    np.testing.assert_array_equal(profile.in_units("nats"), ENTROPY)
    np.testing.assert_allclose(profile.in_units("bits"), ENTROPY / math.log(2), rtol=1e-15)
    np.testing.assert_allclose(profile.in_units("normalized"), ENTROPY / math.log(8), rtol=1e-15)
    with pytest.raises(ArgumentError, match="unit: found 'hartleys'"):
        profile.in_units("hartleys")  # type: ignore[arg-type]


def stages_profile() -> EntropyProfile:
    return make_profile(
        np.arange(14.0).reshape(7, 2) / 10, row_layers=[0, 1, 1, 1, 2, 2, 2],
        row_stages=("embedding", *["attention_output", "resid_mid", "resid_post"] * 2),
        n_layers=2, renyi={2.0: np.arange(14.0).reshape(7, 2) / 20}, top_p=0.9,
        set_size=np.arange(14).reshape(7, 2),
    )


def test_rows_of_one_stage() -> None:
    profile = stages_profile()
    assert profile.row_labels[:3] == ("embedding", "1 attention_output", "1 resid_mid")
    post = profile.at_stage("resid_post")
    assert post.row_layers.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(post.entropy, profile.entropy[[0, 3, 6]])
    np.testing.assert_array_equal(post.renyi[2.0], profile.renyi[2.0][[0, 3, 6]])
    np.testing.assert_array_equal(post.set_size, profile.set_size[[0, 3, 6]])
    assert profile.at_stage("attention_output").row_layers.tolist() == [1, 2]
    assert profile.states().row_layers.tolist() == [0, 1, 1, 2, 2]
    np.testing.assert_array_equal(profile.path_length, [2.0, 2.0])
    assert profile.states().step_length[1:].tolist() == [[0.5, 0.5]] * 4
    assert np.isnan(post.path_length).all()  # from resid_mid, which is left out
    np.testing.assert_array_equal(post.geodesic_length, profile.geodesic_length)
    for branch in (profile.at_stage("attention_output"), profile.at_stage("resid_mid")):
        assert np.isnan(branch.geodesic_length).all()
    with pytest.raises(ArgumentError, match="found 'feed_forward_output', but this profile was read at embedding"):
        profile.at_stage("feed_forward_output")


def test_changes_depth_and_windows() -> None:
    profile = stages_profile()
    np.testing.assert_allclose(profile.delta(), np.diff(profile.entropy[[0, 2, 3, 5, 6]], axis=0))
    np.testing.assert_allclose(profile.relative_depth(), [0, 0.25, 0.25, 0.5, 0.75, 0.75, 1.0])
    wide = make_profile(ENTROPY)
    np.testing.assert_allclose(wide.windows(2), [[0.1, 0.35], [0.6, 0.85]])
    np.testing.assert_allclose(wide.windows(1)[:, 0], ENTROPY.mean(axis=1))
    with pytest.raises(ShapeError, match="6 windows for 5 tokens"):
        wide.windows(6)


def test_tables() -> None:
    profile = stages_profile()
    columns, rows = profile.rows()
    assert {"renyi_2", "set_size_0.9"} <= set(columns)
    assert len(rows) == 14
    columns, lines = profile.by_row()
    found = [dict(zip(columns, line, strict=True)) for line in lines]
    assert [line["stage"] for line in found] == list(profile.row_stages)
    np.testing.assert_allclose([line["entropy"] for line in found], profile.entropy.mean(axis=1))
    assert found[0]["cross_entropy"] is None
    assert found[0]["rank_1_share"] is None
    ranked = make_profile(ENTROPY, rank=[[1, 2, 1, 1, 0]] * 2, target_ids=[3, 4, 5, 6, -1],
                          cross_entropy=[[1.0, 2.0, 3.0, 4.0, np.nan]] * 2)
    line = dict(zip(*[ranked.by_row()[0], ranked.by_row()[1][0]], strict=True))
    assert (line["rank_1_share"], line["cross_entropy"]) == (0.75, 2.5)
    assert ranked.to_dict()["type"] == "EntropyProfile"
    assert "7 places in 2 blocks" in profile.summary()
    assert profile.source == Source(model="by hand", versions=profile.source.versions)


def test_path_and_geodesic() -> None:
    profile = make_profile(ENTROPY, step_length=np.vstack([np.full((1, 5), np.nan), np.arange(5.0)[None]]))
    np.testing.assert_array_equal(profile.path_length, np.arange(5.0))
