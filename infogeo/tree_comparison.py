"""Which family of word graphs finds more of the relations of a treebank: choice, intervals, and paired tests."""

from __future__ import annotations

import dataclasses
import warnings as python_warnings
from collections.abc import Sequence
from numbers import Real
from typing import Literal

import numpy as np

from infogeo._checks import check_count, check_memory, random_generator
from infogeo._pairs import Rng
from infogeo._tree_choice import Part, choose_variants, parts_of
from infogeo._tree_families import FamilyVariants as FamilyVariants
from infogeo._tree_families import check_same_families, shared_sentences
from infogeo._tree_records import FamilyDifference as FamilyDifference
from infogeo._tree_records import FamilyEstimate as FamilyEstimate
from infogeo._tree_records import VariantChoice as VariantChoice
from infogeo._tree_report import report
from infogeo._tree_result import TreebankComparison as TreebankComparison
from infogeo._tree_statistics import Resamples
from infogeo._tree_table import ScoreTable as ScoreTable
from infogeo.errors import ArgumentError
from infogeo.estimates import EstimateWarning
from infogeo.results import Source

Split = Literal["cross", "half"]
FEW_SENTENCES = 20
"""Below so many sentences a part is too small for percentile intervals to be trusted."""


def compare_families(
    scores: ScoreTable,
    *,
    choose: ScoreTable | None = None,
    split: Split = "cross",
    first: int | None = None,
    reference: str | None = "attention head",
    level: float = 0.95,
    resamples: int = 10_000,
    rng: Rng = 0,
    memory: float = 256e6,
    source: Source | None = None,
) -> TreebankComparison:
    r"""Compare families of word graphs over a treebank, each with the variant that was best on other sentences.

    **Choice.** For each family and decoder, the variant with the highest UUAS (share of all relations found, without
    punctuation) on the choosing part; of equals the first. Everything reported comes from the reporting part, which
    the choice does not see. With ``split="cross"`` each half chooses for the other, and both halves are put together,
    each with the variant that the other half chose. No number is too high by that, but the halves are then not
    independent of each other. Intervals and p-values take them for independent, which they nearly are where one
    variant stands out (``stability`` of ``choices`` near 1). Where several are equally good, and err each in its own
    way, the errors of the halves correlate by up to 0.36 (of three variants), and a test at 0.05 errs in up to a tenth
    of all cases; ``split="half"`` and ``choose`` do not have this.

    **Estimates**, with and without punctuation:

    - ``uuas``, of all relations, of long ones (more than three words apart), of each distance and of each relation:
      hits over relations, both summed over the sentences (micro average);
    - ``uuas_by_sentence``, the mean over sentences of the share found in each;
    - ``dspr``, rank correlation of distances: mean over the sentences of each length, then mean over the lengths 5 to
      50 [1]_; punctuation is always counted.

    **Intervals** are percentile intervals from ``resamples`` bootstrap samples of whole sentences [2]_, the same
    samples for all families, drawn within each reported half; a micro average is the ratio of resampled sums. They
    hold the choice fixed; how firm the choice is tells ``choices``. The interval of whichever family looks best in
    the end is one of many, and too high by the luck of that pick. Sentences of one document resemble each other,
    which the intervals do not know, and a share of 0 or 1 has an interval of no width. A category in fewer than five
    sentences has no interval.

    **Differences** to the reference family are paired: the same sentences, the same samples. The p-value of a micro
    difference is that of the exact two-sided sign-flip test of the sentence sums [3]_. Since all graphs are scored
    against the same relations, the denominator of the micro average is the same for both, and

    .. math:: U_f - U_r = \sum_s d_s \Big/ \sum_s m_s, \qquad d_s = h_{fs} - h_{rs},

    depends on the :math:`d_s` alone (:math:`h` hits, :math:`m` relations of sentence s). If it does not matter which
    of the two families a sentence was given to, all sign patterns of the :math:`d_s` are equally likely, whatever
    depends on what inside a sentence; and where only :math:`\mathrm{E} \sum_s d_s = 0` holds, the test is right as the
    sentences become many, as a test by the bootstrap would be. It is computed over all :math:`2^S` patterns, without
    drawing; nothing below 1e-12 is given. Holm's correction is made over all families for ``all``, the same again
    for ``long``, over families and distances together, and over families and relations together, separately for each
    decoder and with and without punctuation. ``mcnemar_p_value`` is the exact test that takes relations for
    independent; those of a sentence are not, since one tree answers for all of them, so it is given for comparison
    with the literature and decides nothing.

    **Best fixed offset.** For each relation, the head is supposed at the offset from its dependent that is most
    frequent on the choosing part; the share that is right there is a reference for the recall by relation. It knows
    the relation and which word is the dependent, which no graph here is told.

    Parameters
    ----------
    scores : ScoreTable
        What is reported on; with no ``choose`` also what is chosen on.
    choose : ScoreTable, optional
        Other sentences with the same families, to choose on; then all of ``scores`` is reported, and ``split`` and
        ``first`` have no say.
    split : {"cross", "half"}
        ``cross``: choose on each half, report on the other. ``half``: choose on the first half, report on the second.
    first : int, optional
        How many sentences the first half has; half of them, rounded down, if not given.
    reference : str, optional
        Name of the family that all others are compared with; None for no differences.
    level : float
        Coverage of the intervals, between 0 and 1.
    resamples : int
    rng : numpy Generator, seed or None
    memory : float
        Bytes of resamples and of what is computed from them that are held at once, about; does not change the result.
    source : Source, optional
        Of the scores; the options of the comparison are added to it.

    Returns
    -------
    TreebankComparison

    Raises
    ------
    ArgumentError
        If a part has fewer than two sentences, or no relation to choose by; if the reference is no family; if
        ``choose`` has other families, or is about the very sentences that are reported on; if an option is out of
        range.

    Warns
    -----
    EstimateWarning
        If a part has fewer than 20 sentences.

    References
    ----------
    .. [1] Hewitt and Manning, "A structural probe for finding syntax in word representations", NAACL 2019, section 4.
    .. [2] Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    .. [3] Dror, Baumer, Shlomov and Reichart, "The hitchhiker's guide to testing statistical significance in natural
       language processing", ACL 2018, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from infogeo import DependencyTree, FamilyVariants, ScoreTable, score_closeness
    >>> rng = np.random.default_rng(0)
    >>> families = [FamilyVariants(name="word order", kind="baseline", variants=("neighbors",)),
    ...             FamilyVariants(name="noise", kind="baseline", variants=("first", "second"))]
    >>> rows = []
    >>> for k in range(60):
    ...     tree = DependencyTree.from_words("abcdef", [1, 2, -1, 2, 3, 4], name=f"s{k}")
    ...     near = -np.abs(np.subtract.outer(np.arange(6.0), np.arange(6.0)))
    ...     noise = rng.random((2, 6, 6))
    ...     rows.append([score_closeness([near], tree), score_closeness(noise + noise.swapaxes(1, 2), tree)])
    >>> found = compare_families(ScoreTable.collect(rows, families), reference="word order")
    >>> found.estimate("word order").value, round(found.estimate("noise").value, 2)
    (1.0, 0.3)
    >>> found.difference("noise").upper < 0, found.difference("noise").p_value < 0.001
    (True, True)
    """
    _check_options(scores, split, reference, level)
    resamples = check_count("resamples", resamples, 1)
    memory = check_memory("memory", memory)
    generator = random_generator(rng)
    if choose is not None:
        _check_choosing(choose, scores)
    parts = parts_of(scores, choose, split, first)
    warned = _check_sizes(parts)
    seeds = generator.integers(2**63, size=len(parts) + 1).tolist()
    drawn = Resamples(tuple(len(part.reporting) for part in parts), resamples, seeds[-1], memory)
    choices, estimates, differences = [], [], []
    for decoder in scores.decoders:
        chosen, indices = choose_variants(
            parts, decoder,
            [Resamples((len(p.choosing),), resamples, seed, memory) for p, seed in zip(parts, seeds, strict=False)],
        )
        found, against = report(parts, indices, decoder, reference=reference, drawn=drawn, level=float(level))
        choices += chosen
        estimates += found
        differences += against
    seed = int(rng) if isinstance(rng, int | np.integer) else None
    source = (source or Source()).with_options(
        split="other sentences" if choose is not None else split, reference=reference, level=float(level),
        resamples=resamples, n_choosing=sum(len(p.choosing) for p in parts) if choose is None else len(choose),
    )
    return TreebankComparison(
        families=scores.families, decoders=scores.decoders, reference=reference,
        split="other sentences" if choose is not None else split, n_sentences=sum(len(p.reporting) for p in parts),
        level=float(level), resamples=resamples, choices=tuple(choices), estimates=tuple(estimates),
        paired=tuple(differences), warnings=warned, source=dataclasses.replace(source, seed=seed),
    )


def _check_options(scores: ScoreTable, split: str, reference: str | None, level: float) -> None:
    if not isinstance(scores, ScoreTable):
        raise ArgumentError(f"scores: found {type(scores).__name__}, wanted a ScoreTable; ScoreTable.collect makes one")
    if split not in ("cross", "half"):
        raise ArgumentError(f"split: found {split!r}, wanted 'cross' or 'half'")
    names = [family.name for family in scores.families]
    if reference is not None and reference not in names:
        raise ArgumentError(
            f"reference: found {reference!r}, wanted one of the families {', '.join(names)}, or None for no differences"
        )
    if isinstance(level, bool) or not isinstance(level, Real) or not 0 < level < 1:
        raise ArgumentError(f"level: found {level!r}, wanted a coverage between 0 and 1")


def _check_choosing(choose: ScoreTable, scores: ScoreTable) -> None:
    if not isinstance(choose, ScoreTable):
        raise ArgumentError(f"choose: found {type(choose).__name__}, wanted a ScoreTable of other sentences, or None")
    check_same_families(choose, scores, "choose", "scores")
    if shared := shared_sentences(choose, scores):
        raise ArgumentError(
            f"choose: found {len(shared)} sentences that are reported on ({', '.join(shared[:3])}), which would report "
            "the luck of the choice; give other sentences, or split='cross'"
        )


def _check_sizes(parts: Sequence[Part]) -> tuple[str, ...]:
    """Raise for parts that say nothing; warn of those that say little."""
    sizes = {}
    for part in parts:
        sizes[part.chosen_on] = len(part.choosing)
        sizes[part.reported_on] = len(part.reporting)
        if not part.choosing.totals().any():
            raise ArgumentError(f"{part.chosen_on}: found no relation without punctuation, wanted some to choose by")
    for name, size in sizes.items():
        if size < 2:
            raise ArgumentError(
                f"{name}: found {size} of the sentences usable, wanted at least two to choose on and two to report on"
            )
    few = ", ".join(f"{name} {size}" for name, size in sizes.items() if size < FEW_SENTENCES)
    if not few:
        return ()
    message = (
        f"few sentences ({few}; wanted at least {FEW_SENTENCES}): percentile intervals are too narrow, and the choice "
        "of variants is mostly luck"
    )
    python_warnings.warn(message, EstimateWarning, stacklevel=3)
    return (message,)
