"""Information between the vectors of tokens held against divergences between the same vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infogeo._checks import FloatArray, check_count, random_generator, sealed
from infogeo._resampling import centered_ranks, correlations, residuals_within
from infogeo._units import Unit
from infogeo.distances import fisher_rao_distance, jensen_shannon_distance
from infogeo.divergences import bhattacharyya_distance
from infogeo.errors import ArgumentError, DomainError
from infogeo.families import Categorical
from infogeo.results import Result, Source
from infogeo_adapters.token_information import TokenInformation

DIVERGENCES = ("Jensen–Shannon", "Bhattacharyya", "Fisher–Rao", "Wasserstein-1")


@dataclass(frozen=True, eq=False, kw_only=True)
class InformationScatter(Result):
    """Information of each two tokens against divergences of the softmaxed vectors, with rank correlations."""

    information: FloatArray
    """(M) of the pairs."""
    divergences: Mapping[str, FloatArray]
    """(M) each, by name."""
    pairs: tuple[tuple[int, int], ...]
    """(M) places of the two tokens."""
    tokens: tuple[str, ...]
    correlation: Mapping[str, float]
    """Spearman's coefficient of information and divergence."""
    given_place: Mapping[str, float]
    """The same of ranks less their mean over pairs as far apart in the text, j - i."""
    p_value: Mapping[str, float]
    """Two-sided, of ``correlation``, from renaming the tokens of one of the two tables."""
    permutations: int
    what: str
    """Which vectors."""
    unit: Unit
    source: Source = field(default_factory=Source)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("from", "to", "information", *self.divergences)
        table = [
            (self.tokens[i], self.tokens[j], float(self.information[m]),
             *(float(v[m]) for v in self.divergences.values()))
            for m, (i, j) in enumerate(self.pairs)
        ]
        return columns, table

    def summary(self) -> str:
        shown = ", ".join(f"{name} {value:.2f}" for name, value in self.correlation.items())
        return f"InformationScatter of {len(self.pairs)} pairs, {self.what}: rank correlation with {shown}"


def information_scatter(
    information: TokenInformation, *, permutations: int = 999, rng: Any = None
) -> InformationScatter:
    r"""Hold the information of two tokens' vectors against divergences between the same vectors after a softmax.

    With p and q the softmax of the two vectors: the Jensen–Shannon distance (the root of the divergence in nats), the
    Bhattacharyya distance :math:`-\log \sum \sqrt{p q}`, the Fisher–Rao distance :math:`2 \arccos \sum \sqrt{p q}`, and
    the Wasserstein-1 distance of the *values* of p and of q, :math:`\frac1d \sum_c |p_{(c)} - q_{(c)}|` with both
    sorted: components have no order or place on a line, so there is no other without choosing one. The softmax of a
    query or key is a convention of the drawing, no distribution of the model.

    Pairs share tokens, so p-values come from renaming the tokens of one table (both sides alike), not from counting
    pairs as independent.

    Parameters
    ----------
    information : TokenInformation
    permutations : int
    rng : None, int or Generator

    Returns
    -------
    InformationScatter

    Raises
    ------
    DomainError
        If there are fewer than 4 tokens.

    Examples
    --------
    >>> from infogeo_adapters import load_model, token_mutual_information
    >>> found = token_mutual_information(load_model(), "The dog ran home to the old house.", block=2, rng=0)
    >>> sorted(information_scatter(found, permutations=99, rng=0).correlation) == sorted(DIVERGENCES)
    True
    """
    if not isinstance(information, TokenInformation):
        raise ArgumentError(
            f"information: found {type(information).__name__}, wanted what token_mutual_information returns"
        )
    t = len(information.tokens)
    if t < 4:
        raise DomainError(f"information: found {t} tokens, wanted at least 4")
    check_count("permutations", permutations, 1)
    generator = random_generator(rng)
    same = information.sides[0] == information.sides[1]
    i, j = np.triu_indices(t, 1) if same else np.divmod(np.arange(t * t), t)
    p, q = (Categorical.from_logits(v) for v in information.vectors)
    left, right = Categorical.from_logits(information.vectors[0][i]), Categorical.from_logits(information.vectors[1][j])
    sorted_p, sorted_q = (np.sort(np.asarray(side.probs), axis=1) for side in (p, q))
    found = {
        "Jensen–Shannon": jensen_shannon_distance(left, right),
        "Bhattacharyya": bhattacharyya_distance(left, right),
        "Fisher–Rao": fisher_rao_distance(left, right),
        "Wasserstein-1": np.abs(sorted_p[i] - sorted_q[j]).mean(axis=1),
    }
    values = information.values[i, j]
    lags = (j - i) - (j - i).min()
    square = np.zeros((t, t))
    ranks = centered_ranks(values)
    square[i, j] = ranks
    if same:
        square[j, i] = ranks
    others = np.array([centered_ranks(np.asarray(found[name])) for name in DIVERGENCES])
    raw = correlations(ranks, others)
    partial = correlations(residuals_within(ranks, lags), residuals_within(others, lags))
    reached = np.zeros(len(others))
    for _ in range(permutations):
        order = generator.permutation(t)
        renamed = square[np.ix_(order, order)][i, j]
        reached += np.abs(correlations(renamed, others)) >= np.abs(raw) - 1e-12
    p_values = (1 + reached) / (1 + permutations)
    return InformationScatter(
        information=sealed(values.copy()), divergences={n: sealed(np.array(found[n])) for n in DIVERGENCES},
        pairs=tuple(zip(i.tolist(), j.tolist(), strict=True)), tokens=information.tokens,
        correlation=dict(zip(DIVERGENCES, raw.tolist(), strict=True)),
        given_place=dict(zip(DIVERGENCES, partial.tolist(), strict=True)),
        p_value=dict(zip(DIVERGENCES, p_values.tolist(), strict=True)), permutations=permutations,
        what=f"{information.sides[0]} and {information.sides[1]} of block {information.block}", unit=information.unit,
        source=information.source,
    )
