"""Permutation tests of whether two matrices of the same words agree: as they are, and beyond word order."""

from __future__ import annotations

from typing import Literal

from infogeo import _resampling as kernels
from infogeo._checks import FloatArray, random_generator
from infogeo._pairs import (
    ONLY_ORDER,
    Matrix,
    Rng,
    as_square,
    check_count,
    closeness_pairs,
    label,
    permutation_options,
)
from infogeo.coefficients import Comparison, compared
from infogeo.errors import ArgumentError, DomainError

Alternative = Literal["greater", "less", "two-sided"]


def mantel_test(
    a: Matrix,
    b: Matrix,
    *,
    permutations: int = 999,
    alternative: Alternative = "greater",
    rng: Rng = 0,
) -> Comparison:
    """Whether two matrices of the same words agree more than they would with the words of one shuffled.

    The statistic is Spearman's coefficient of the pairs. Rows and columns of one matrix are permuted together, which
    keeps the dependence between pairs that share a word. The p-value is (1 + number at least as extreme) / (1 +
    permutations); where all n! permutations number at most 5040 or ``permutations`` they are all visited, and p is
    the exact share.

    Word order alone makes distances and attention agree: words that stand near each other are close on both sides.
    :func:`partial_mantel_test` asks whether there is more.

    Parameters
    ----------
    a, b : DistanceMatrix or AffinityMatrix
        Of the same n >= 3 words.
    permutations : int
        How many are drawn, at least 1; the smallest p-value possible is 1 / (permutations + 1).
    alternative : {"greater", "less", "two-sided"}
        Against agreement by chance: agreement (the default), opposition, or either.
    rng : numpy Generator, seed or None

    Returns
    -------
    Comparison
        ``value`` Spearman's coefficient, ``p_value``; the source tells how many permutations, and whether all.

    Raises
    ------
    ArgumentError, DomainError
        As :func:`spearman`; also for fewer than one permutation or an unknown alternative.

    References
    ----------
    .. [1] Mantel, "The detection of disease clustering and a generalized regression approach", Cancer Research 27,
       1967.
    .. [2] Phipson and Smyth, "Permutation p-values should never be zero", Statistical Applications in Genetics and
       Molecular Biology 9, 2010 (the one that is added).

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo.results import Source
    >>> from infogeo.words import DistanceMatrix
    >>> x = np.array([0., 1., 3., 7., 15.])
    >>> d = DistanceMatrix(values=np.abs(np.subtract.outer(x, x)), words=tuple("abcde"), measure="euclidean_distance",
    ...                    symmetric=True, metric=True, source=Source())
    >>> test = mantel_test(d, d)
    >>> test.value, test.p_value == 1 / 120  # all 120 orders of five words were visited
    (1.0, True)
    """
    x, y = closeness_pairs(a, b)
    ranks, others = kernels.centered_ranks(x), kernels.centered_ranks(y[None])
    score = kernels.Permuted(as_square(ranks, len(a.words)), others)
    value = kernels.correlations(ranks, others)[0]
    return _tested("mantel", value, score, a, b, permutations=permutations, alternative=alternative, rng=rng)


def partial_mantel_test(
    a: Matrix,
    b: Matrix,
    *,
    permutations: int = 999,
    alternative: Alternative = "greater",
    rng: Rng = 0,
) -> Comparison:
    r"""Whether two matrices of the words of a text agree beyond word order.

    Pairs of words are compared only with pairs that stand equally far apart in the text. Let :math:`r_{ij}` and
    :math:`s_{ij}` be the ranks of the closeness of all pairs on the two sides, and :math:`\bar r_k` the mean of
    :math:`r` over the pairs with :math:`|i - j| = k`. The statistic is the correlation of the residuals

    .. math:: e_{ij} = r_{ij} - \bar r_{|i-j|}, \qquad f_{ij} = s_{ij} - \bar s_{|i-j|},

    which is the partial correlation of the ranks given :math:`|i - j|` as a factor. Whatever a side owes to
    :math:`|i - j|`, by any function, linear or not, is gone. (With the residuals from a straight line in the ranks of
    :math:`|i - j|` instead, as in a partial Spearman coefficient, two sides that only tell adjacent words from others
    keep a common rest, and are found to agree.)

    For the p-value rows and columns of :math:`e` are permuted together, residuals are taken again, and correlated
    with :math:`f`: the permutation of the residuals of the null model, p-values as in :func:`mantel_test`. It is an
    approximation, as all permutation tests of partial correlations are, since residuals are not quite exchangeable:
    with two sides of 8 to 20 words that followed word order and were else unrelated, p <= 0.05 came in 1 to 11 of 100
    texts, most with the fewest words, where :func:`mantel_test` had it in up to 100 (``benchmarks/word_order.py``).

    Parameters
    ----------
    a, b : DistanceMatrix or AffinityMatrix
        Of the same n >= 3 words of one text, in its order (level ``occurrence``).
    permutations : int
        How many are drawn, at least 1.
    alternative : {"greater", "less", "two-sided"}
        Against agreement by chance: agreement (the default), opposition, or either.
    rng : numpy Generator, seed or None

    Returns
    -------
    Comparison
        ``value`` the partial correlation in [-1, 1], ``p_value``; ``n`` the number of pairs.

    Raises
    ------
    ArgumentError
        If the words differ or are types, which have no order; for fewer than one permutation or an unknown
        alternative.
    DomainError
        If there are fewer than three words, or one side is a function of :math:`|i - j|` alone, so that nothing is
        left to compare.

    References
    ----------
    .. [1] Smouse, Long and Sokal, "Multiple regression and correlation extensions of the Mantel test of matrix
       correspondence", Systematic Zoology 35, 1986.
    .. [2] Legendre, "Comparison of permutation methods for the partial correlation and partial Mantel tests", Journal
       of Statistical Computation and Simulation 67, 2000.

    Examples
    --------
    Two sides that know only which words are neighbors in the text agree, but not beyond word order:

    >>> import numpy as np
    >>> from infogeo.activations import AffinityMatrix
    >>> from infogeo.results import Source
    >>> from infogeo.words import DistanceMatrix
    >>> rng, words = np.random.default_rng(0), tuple("the dog saw a cat and ran to it".split())
    >>> apart = np.abs(np.subtract.outer(np.arange(9.), np.arange(9.)))
    >>> noise = rng.random((2, 9, 9)) * (apart > 0)
    >>> d = DistanceMatrix(values=(apart > 1) + 0.1 * (noise[0] + noise[0].T), words=words, measure="adjacent_or_not",
    ...                    symmetric=True, metric=False, source=Source())
    >>> near = AffinityMatrix(values=(apart < 2) + 0.1 * (noise[1] + noise[1].T), words=words, name="neighbors",
    ...                       directed=False, source=Source())
    >>> mantel_test(d, near).p_value, partial_mantel_test(d, near).p_value > 0.05
    (0.004, True)
    """
    x, y = closeness_pairs(a, b)
    if a.level == "type":
        raise ArgumentError("found word types, wanted the words of one text: types have no order to take out")
    sides = []
    lags = kernels.words_between(len(a.words))
    for matrix, values in ((a, x), (b, y)):
        left = kernels.residuals_within(kernels.centered_ranks(values), lags)
        if not left.any():
            raise DomainError(f"{label(matrix)} {ONLY_ORDER}: beyond word order there is nothing to compare")
        sides.append(left)
    score = kernels.Permuted(as_square(sides[0], len(a.words)), sides[1][None], lags)
    value = kernels.correlations(sides[0], sides[1][None])[0]
    return _tested(
        "partial_mantel", value, score, a, b, permutations=permutations, alternative=alternative, rng=rng,
        given="word order",
    )


def _tested(
    statistic: str, value: float, score: kernels.Permuted, a: Matrix, b: Matrix, *, permutations: int,
    alternative: str, rng: Rng, **options: str,
) -> Comparison:
    permutations = check_count("permutations", permutations, 1)
    if alternative not in ("greater", "less", "two-sided"):
        raise ArgumentError(f"alternative {alternative!r} does not exist; choose greater, less or two-sided")
    p_values: FloatArray = kernels.permutation_p_values(
        [score], permutations=permutations, rng=random_generator(rng), alternative=alternative
    )[0]
    return compared(
        statistic, float(value), a, b, n=score.targets.shape[1], unit="word pairs", p_value=float(p_values[0]), rng=rng,
        **permutation_options(len(a.words), permutations, alternative), **options,
    )
