"""Matrices and graphs that several test files need."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from infogeo.activations import AffinityMatrix
from infogeo.graphs import WordGraph
from infogeo.results import Source
from infogeo.words import DistanceMatrix

SOURCE = Source(
    model="tiny", content_hash="00ff", seed=3,
    options={"text": "ü\n\0", "r": 0.1, "inf": float("inf"), "no": None, "yes": True},
)  # fmt: skip


def words_for(n):
    return tuple(f"w{i}" for i in range(n))


def distances(values, *, words=None, symmetric=True, **fields):
    values = np.asarray(values, dtype=float)
    fields = {"measure": "some_distance", "metric": False, "source": SOURCE, **fields}
    return DistanceMatrix(values=values, words=words or words_for(len(values)), symmetric=symmetric, **fields)


def line(*points, words=None):
    """Distances between points on a line."""
    return distances(np.abs(np.subtract.outer(points, points)), words=words, measure="euclidean_distance", metric=True)


def affinities(values, *, words=None, directed=False, **fields):
    values = np.asarray(values, dtype=float)
    fields = {"name": "attention", "source": SOURCE, **fields}
    return AffinityMatrix(values=values, words=words or words_for(len(values)), directed=directed, **fields)


def random_distances(n, rng, *, symmetric=True, levels=None):
    """Random distances, with many ties if ``levels`` says how many values there are."""
    values = rng.random((n, n)) if levels is None else rng.integers(0, levels, (n, n)).astype(float)
    values = values + values.T if symmetric else values
    np.fill_diagonal(values, 0.0)
    return distances(values, symmetric=symmetric)


def random_affinities(n, rng, *, directed=False, levels=None, **fields):
    values = rng.random((n, n)) if levels is None else rng.integers(0, levels, (n, n)).astype(float)
    return affinities(values if directed else values + values.T, directed=directed, **fields)


def same_graph(a, b):
    assert a.words == b.words
    for name in ("edges", "distance", "weight"):
        left, right = getattr(a, name), getattr(b, name)
        assert left.dtype == right.dtype
        assert np.array_equal(left, right), name
    for name in ("directed", "construction", "measure", "level", "source"):
        assert getattr(a, name) == getattr(b, name), name


def word_graph(words, edges=(), *, distance=None, weight=None, directed=False, **fields):
    m = len(edges)
    fields = {"construction": "by_hand()", "measure": "some_distance", "source": SOURCE, **fields}
    return WordGraph(
        words=tuple(words), edges=np.array(edges, dtype=np.int64).reshape(m, 2), directed=directed,
        distance=np.zeros(m) if distance is None else np.asarray(distance, dtype=float),
        weight=np.ones(m) if weight is None else np.asarray(weight, dtype=float), **fields,
    )


LABELS = (
    "", " ", "\t", "\r", "\r\n", "a\tb\nc\rd", "\\", "\\\\", '\\"', '"', "''", "'=1", "=1+1", "-", "@x", "＝1",
    "<!--", "]]>", "&amp;", "&#0;", "NaN", "null", "0", "graph", "\\N", "a\\\nb", "שלום", "\u202eabc",
    "👩\u200d👧", "e\u0301", "\ufffe", "\ud83d", "\udce9", "\x00", "\x0b", "/*", "//", "#", "\ufeff", "\x85",
    "\u2028", "\x7f", "\x1b[0m", "a,b;c", "  x  ", "<script>alert(1)</script>",
)  # fmt: skip

HOSTILE = st.one_of(
    st.text(max_size=6),
    st.text(st.characters(exclude_categories=()), max_size=4),  # surrogates and controls among them
    st.text("\"'<>&\\\n\r\t\0\x1b\x85\u2028\u202e\ufeff=+-@,;{}[]#/*= אב😀é", max_size=8),
    st.sampled_from(LABELS),
)


@st.composite
def hostile_graphs(draw):
    """Small graphs with any words, numbers and texts."""
    words = draw(st.lists(HOSTILE, max_size=5))
    n, directed = len(words), draw(st.booleans())
    pairs = [(i, j) for i in range(n) for j in range(n) if (i != j if directed else i < j)]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    size = {"min_size": len(edges), "max_size": len(edges)}
    lengths = st.floats(0, allow_infinity=False)
    return word_graph(
        words, edges, directed=directed, distance=draw(st.lists(lengths, **size)),
        weight=draw(st.lists(st.floats(0, exclude_min=True, allow_infinity=False), **size)),
        construction=draw(HOSTILE), measure=draw(HOSTILE),
        level="type" if draw(st.booleans()) else "occurrence",
        source=draw(st.sampled_from([SOURCE, Source(), Source(model="/models/caf\u00e9 \"x\"", versions={"a": "1"})])),
    )
