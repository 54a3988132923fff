"""How much of an agreement between distances and attention word order alone makes, and what the partial test lets by.

Three tables:

1. Two sides that follow word order and are otherwise unrelated (simulated): the share of texts where each test has
   p <= 0.05. A sound test has it in about 5 of 100.
2. The bundled model on sentences of its background sample: the same for a "distance" that is nothing but ``|i - j|``
   against the head average of block 3 (the partial test refuses it, since nothing is left to test).
3. The same sentences: rank correlation of rollout and flow with closeness in the text and with earliness, as published
   and relative to uniform attention ::

    python benchmarks/word_order.py --texts 100 --sentences 20
"""

from __future__ import annotations

import argparse
import re

import numpy as np

from infogeo import AffinityMatrix, DistanceMatrix, Source, mantel_test, partial_mantel_test
from infogeo_adapters import attention_flow, attention_rollout, capture_activations, head_average, load_model
from infogeo_adapters.models import background_text

SHAPES = {
    "linear": lambda gap: gap,
    "logarithmic": np.log1p,
    "adjacent or not": lambda gap: 3.0 * (gap > 1),
}
"""Ways in which a side may follow the gap between two words."""


def simulated(n: int, shape: str, rng: np.random.Generator) -> DistanceMatrix:
    """Distances that follow word order, with noise of each word and of each pair."""
    gap = np.abs(np.subtract.outer(np.arange(n), np.arange(n))).astype(float)
    word = rng.exponential(size=n)
    pair = np.triu(rng.exponential(size=(n, n)), 1)
    values = SHAPES[shape](gap) + np.add.outer(word, word) + pair + pair.T
    np.fill_diagonal(values, 0.0)
    return matrix(values, tuple(f"w{i}" for i in range(n)), "simulated")


def matrix(values: np.ndarray, words: tuple[str, ...], measure: str) -> DistanceMatrix:
    """A distance matrix of word occurrences."""
    return DistanceMatrix(values=values, words=words, measure=measure, symmetric=True, metric=False, source=Source())


def sentences(count: int) -> list[str]:
    """Sentences of 8 to 20 words spread over the background sample."""
    found = [s for s in re.split(r"(?<=[.!?])\s+", background_text()) if 8 <= len(s.split()) <= 20]
    places = np.linspace(0, len(found) - 1, count).astype(int)
    return [found[i] for i in places]


def mean_correlations(items: list[AffinityMatrix]) -> tuple[float, float]:
    """Mean correlation with closeness in the text and with earliness, from what the results say of themselves."""
    names = ("rank_correlation_with_distance", "rank_correlation_with_position")
    table = np.array([[item.source.options[name] for name in names] for item in items], dtype=float)
    distance, position = np.nanmean(table, axis=0)
    return -float(distance), -float(position)


def main() -> int:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100, help="simulated texts in each row")
    parser.add_argument("--sentences", type=int, default=20)
    parser.add_argument("--permutations", type=int, default=199)
    args = parser.parse_args()
    rng = np.random.default_rng(0)

    print(f"share of {args.texts} simulated texts with p <= 0.05")
    print(f"{'words':>5} {'order':<16} {'mantel':>7} {'partial':>8}")
    for n in (8, 12, 20):
        for shape in SHAPES:
            hits = np.zeros(2)
            for _ in range(args.texts):
                a, b = simulated(n, shape, rng), simulated(n, shape, rng)
                for k, test in enumerate((mantel_test, partial_mantel_test)):
                    p = test(a, b, permutations=args.permutations, rng=rng).p_value
                    hits[k] += p is not None and p <= 0.05
            plain, partial = hits / args.texts
            print(f"{n:>5} {shape:<16} {plain:>7.2f} {partial:>8.2f}")

    model = load_model()
    activations = capture_activations(model, sentences(args.sentences))
    found, values = 0, []
    for a in activations:
        gap = np.abs(np.subtract.outer(np.arange(len(a.words)), np.arange(len(a.words)))).astype(float)
        result = mantel_test(matrix(gap, a.words, "gap"), head_average(a, 3), permutations=args.permutations, rng=rng)
        found += result.p_value is not None and result.p_value <= 0.05
        values.append(result.value)
    print(f"\n|i - j| as a distance, against the head average of block 3: p <= 0.05 in {found} of {len(activations)} "
          f"sentences, mean coefficient {np.mean(values):.2f}")

    print(f"\n{'affinity':<32} {'closeness':>9} {'earliness':>9}")
    for name, function in (("rollout", attention_rollout), ("flow", attention_flow)):
        for label, relative in (("as published", False), ("relative to uniform", True)):
            made = [function(a, relative_to_uniform=relative) for a in activations]
            closeness, earliness = mean_correlations(made)
            print(f"{name + ', ' + label:<32} {closeness:>9.2f} {earliness:>9.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
