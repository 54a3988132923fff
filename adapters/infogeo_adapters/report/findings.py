"""The results in sentences: what the numbers say, and how little where it is little."""

from __future__ import annotations

import numpy as np

from infogeo.coefficients import Comparison
from infogeo_adapters.analysis import SentenceAnalysis
from infogeo_adapters.plots.style import plural, shorten, visible


def word(analysis: SentenceAnalysis, index: int) -> str:
    """A word in quotation marks, shortened."""
    return f"“{shorten(visible(analysis.activations.words[index]), 30)}”"


def both(analysis: SentenceAnalysis, pair: tuple[int, int]) -> str:
    """Two words with an and between them."""
    return f"{word(analysis, pair[0])} and {word(analysis, pair[1])}"


def own_graph(analysis: SentenceAnalysis) -> str:
    """What the graph beside that of attention is called."""
    return "influence graph" if analysis.by_influence else "geodesic graph"


def relations(analysis: SentenceAnalysis) -> list[str]:
    """Which words are close, on the manifold and in attention."""
    pairs = analysis.pairs()
    if not pairs:
        return []
    values = analysis.distances.symmetrized().values
    attention = analysis.attention.symmetrized().values
    near, far = pairs[0], pairs[-1]
    measured = "By influence the" if analysis.by_influence else "The"
    closest = f"{measured} closest two words are {both(analysis, near)} (distance {three_digits(values[near])})"
    if len(pairs) > 1:
        closest += f", the farthest {both(analysis, far)} (distance {three_digits(values[far])})"
    found = [f"{closest}."]
    strongest = max(pairs, key=lambda p: (attention[p], -p[0], -p[1]))
    if attention[strongest] > 0:
        place = pairs.index(strongest) + 1
        joined = f"Attention joins {both(analysis, strongest)} most strongly"
        found.append(f"{joined}; by distance this pair is number {place} of {len(pairs)}.")
    return found


def overlap(analysis: SentenceAnalysis) -> list[str]:
    """How many edges the two graphs share, and how many they would share by chance."""
    n = len(analysis.activations.words)
    if n < 2:
        return []
    ours, theirs = analysis.graph.n_edges, analysis.attention_graph.n_edges
    shared, pairs = len(analysis.shared_edges()), n * (n - 1) // 2
    if ours == theirs:
        text = f"The {own_graph(analysis)} and the attention graph have {plural(ours, 'edge')} each and share {shared}."
    else:
        text = f"The {own_graph(analysis)} has {plural(ours, 'edge')}, the attention graph {theirs}; "
        text += f"they share {shared}."
    expected = ours * theirs / pairs
    text += (
        f" Two graphs of these sizes with edges drawn at random among the {plural(pairs, 'pair')} of words would share "
        f"{expected:.1f} on average."
    )
    if expected >= 0.9 * min(ours, theirs):
        text += " With so few words, nearly every pair is an edge, and sharing them says little."
    return [text]


def agreement(analysis: SentenceAnalysis, *, alpha: float = 0.05) -> list[str]:
    """Whether distances and attention order the pairs alike, and whether that could be chance or word order."""
    found = []
    mantel = statistic(analysis, "mantel")
    if mantel is not None:
        found.append(sentence(mantel, alpha=alpha))
        order = statistic(analysis, "word_order")
        found.append(beyond_order(statistic(analysis, "partial_mantel"), mantel, order, alpha=alpha))
    if analysis.agreement is not None:
        best = analysis.agreement.best(analysis.layer)
        heads = int(np.isfinite(analysis.agreement.heads[analysis.layer]).sum())
        if best is not None and heads > 1:
            block, head, value = best
            found.append(
                f"Of {heads} heads, head {head} of block {block} agrees most with these distances "
                f"(rank correlation {number(value, 2)}, word order included). It was picked after seeing all of them "
                "on this one text, which makes it look better than it would be on another."
            )
    if found:
        rival = "influence" if analysis.by_influence else "geodesics"
        found.append(f"This is one text. Whether {rival} or attention tell more about language is decided on many.")
    return found


def statistic(analysis: SentenceAnalysis, name: str) -> Comparison | None:
    """The comparison of that name with the report's attention, None where there is none."""
    return next((c for c in analysis.comparisons or () if c.statistic == name), None)


def sentence(comparison: Comparison, *, alpha: float = 0.05) -> str:
    """A correlation of distances and attention with its p-value, in words."""
    value, p = comparison.value, comparison.p_value
    if not np.isfinite(value):
        return "Either the distances or the attention weights are all equal, so no correlation can be computed."
    pairs = f"Over {plural(comparison.n, 'pair')} of words, closeness and attention"
    if abs(value) < 0.1:
        text = f"{pairs} have next to nothing in common"
    else:
        size = "weakly" if abs(value) < 0.3 else "moderately" if abs(value) < 0.6 else "strongly"
        text = f"{pairs} are {size} {'related' if value > 0 else 'opposed'}"
    text += f": rank correlation {number(value, 2)}."
    if p is None:
        return text
    return text + (
        f" With the words of one side shuffled, agreement is at least as good in {percent(p)} of the trials, "
        + ("so chance alone would hardly give it." if p <= alpha else "so this is no evidence of agreement.")
    )


def beyond_order(
    partial: Comparison | None, mantel: Comparison, order: Comparison | None, *, alpha: float = 0.05
) -> str:
    """Whether the agreement is more than word order, in words.

    Parameters
    ----------
    partial, mantel, order : Comparison
        The rows ``partial_mantel``, ``mantel`` and ``word_order`` of one affinity; the first is None where a side is
        word order alone.
    alpha : float
        Level of the tests.
    """
    text = ""
    if order is not None:
        text = f"How near to each other two words stand in the text has rank correlation {number(order.value, 2)} with "
        text += "attention, without any model of distances. "
    if partial is None or partial.p_value is None:
        return text + (
            "One of the two sides is the same for all pairs equally far apart in the text: beyond word order there is "
            "nothing that could agree."
        )
    among = (
        f"among pairs equally far apart in the text the rank correlation is {number(partial.value, 2)}, and as good in "
        f"{percent(partial.p_value)} of the trials"
    )
    if partial.p_value <= alpha:
        return f"{text}The agreement is more than word order: {among}."
    if mantel.p_value is not None and mantel.p_value <= alpha:
        return f"{text}No more than word order is shown by this agreement: {among}."
    return f"{text}Nor is there evidence of agreement beyond word order: {among}."


def percent(share: float) -> str:
    """A share in percent, with more digits where it is small."""
    return f"{100 * share:.0f} %" if share >= 0.095 else f"{100 * share:.2g} %"


def three_digits(value: float) -> str:
    """A number with three significant digits and a minus sign that is one.

    Examples
    --------
    >>> [three_digits(v) for v in (0.5, 123.4, -1e-7)]
    ['0.500', '123', '−1.00e−07']
    """
    return f"{value:#.3g}".rstrip(".").replace("-", "−")


def number(value: float, digits: int) -> str:
    """A number with so many decimals and a minus sign that is one."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")
