"""The capacity of every block, part and head of a model on texts, as one table."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import check_count, check_number, random_generator
from infogeo._units import Unit, per_nat
from infogeo.capacity.results import Part
from infogeo.errors import ArgumentError, ModelError
from infogeo.estimates import EstimateWarning
from infogeo.results import Result, Source
from infogeo_adapters._capacity_record import Record
from infogeo_adapters._capacity_views import VIEWS, Measured, Noise, Plan, layers_of, measure_block, read_noise
from infogeo_adapters.transformers.channels import check_blocks, check_parts
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.parts import PARTS

if TYPE_CHECKING:
    from infogeo_adapters.transformers.alignment import Tokens

MAX_TOKENS = 8192
WINDOW = 32


@dataclass(frozen=True, eq=False, kw_only=True)
class CapacityTable(Result):
    """Capacities of the blocks, parts and heads of a model, each with its noise and its input constraint."""

    items: tuple[Measured, ...]
    """In the order of the blocks; ``capacity`` of each is a :class:`~infogeo.LayerCapacity`."""
    unit: Unit
    window: int
    """Tokens in a window, special ones counted."""
    n_windows: int
    n_tokens: int
    """Tokens measured, special ones left out."""
    level: float
    """Coverage of the intervals."""
    notes: tuple[str, ...] = ()
    """What could not be measured and why, and what speaks against a number."""
    source: Source = field(default_factory=Source)

    def select(self, *, view: str | None = None, part: str | None = None, block: int | None = None) -> CapacityTable:
        """The table with the rows of one view, part or block."""
        chosen = tuple(
            item for item in self.items
            if view in (None, item.capacity.view) and part in (None, item.part) and block in (None, item.block)
        )
        return replace(self, items=chosen)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        columns = ("block", "part", "head", "view", "capacity", "lower", "upper", "rate", "rate_lower", "rate_upper",
                   "utilization", "unit", "ceiling", "n", "noise", "constraint")
        rows = []
        for item in self.items:
            c = item.capacity
            rows.append((
                item.block, item.part, item.head, c.view, c.capacity, *(c.capacity_interval or (None, None)), c.rate,
                *(c.rate_interval or (None, None)), c.utilization, c.unit, c.ceiling, c.n, c.noise, c.constraint,
            ))
        return columns, rows

    def assumptions(self) -> tuple[str, ...]:
        """What the numbers of each view rest on, one sentence for each."""
        noise, power = self.source.options.get("noise"), self.source.options.get("power")
        stated = f"rounding to {noise}" if isinstance(noise, str) else f"white noise {noise:g} dB below the output"
        queries = max((max(item.capacity.details["queries"]) for item in self.items if item.part == "head"), default=0)
        spent = "the power of the actual inputs" + ("" if power == 1 else f" times {power:g}")
        sentences = {
            "linear_gaussian": "noise of block, attention and feed_forward: the residual of the linear fit; of query, "
            f"key and value: {stated}; input: {spent}",
            "jacobian": f"noise: {stated}; input: {spent}, each token with the others fixed",
            "attention": f"noise: the head's own weights; input: any query among the {queries} tokens of a window",
            "readout": "noise: the prediction's own; input: any of the contexts sampled",
        }
        shown = {item.capacity.view for item in self.items}
        return tuple(f"{view}: {sentence}" for view, sentence in sentences.items() if view in shown)

    def summary(self) -> str:
        views = ", ".join(dict.fromkeys(item.capacity.view for item in self.items))
        return (
            f"CapacityTable of {len(self.items)} channels ({views or 'none'}) from {self.n_tokens} tokens in "
            f"{self.n_windows} window{'' if self.n_windows == 1 else 's'} ({self.source.model})"
        )


def measure_capacity(
    model: LanguageModel,
    texts: str | Sequence[str],
    *,
    views: Sequence[str] = VIEWS,
    parts: Sequence[Part] = PARTS,
    blocks: Sequence[int] | None = None,
    noise: Noise = 20.0,
    power: float = 1.0,
    window: int = WINDOW,
    max_tokens: int = MAX_TOKENS,
    jacobian_tokens: int = 32,
    attention_windows: int = 128,
    contexts: int = 64,
    components: int | None = None,
    permutations: int = 0,
    level: float = 0.95,
    rng: int | np.random.Generator | None = 0,
    unit: Unit = "nats",
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> CapacityTable:
    r"""Capacity of every block, part and head of a model, each as a channel in the views asked for.

    A model computes without noise, so no capacity is its own: it belongs to the noise and to the input constraint that
    are stated beside it in each row.

    ===================  ==============================  ============================================================
    view                 channel                         noise and constraint
    ===================  ==============================  ============================================================
    ``linear_gaussian``  linear fit of a part's output   block, attention, feed-forward: the residual of the fit, so
                         to its input                    that nonlinearity counts as noise. Query, key, value (exactly
                         linear): the stated noise
    ``jacobian``         a part around each token        the stated noise
    ``attention``        query to key, each head         none beside the head's own weights; any law over queries
    ``readout``          context to predicted token,     none beside the prediction's own; any law over the contexts
                         read out after each block       sampled
    ===================  ==============================  ============================================================

    The stated noise is white, its variance that of the output's components on average divided by the signal-to-noise
    ratio, or the rounding of a number format. The power is that of the actual inputs times ``power``. Rates are at the
    law of the actual inputs.

    Texts are cut into windows of equal length, and all views see the same windows: so the ceiling of a head, the
    logarithm of its tokens, is the same everywhere. Neighboring windows are alike, so that twenty stretches of them, of
    about as many tokens each, are the groups of the intervals (of fewer windows each one). One block after the other is
    measured, so that memory does not grow with their number.

    Parameters
    ----------
    model : LanguageModel
        From :func:`infogeo_adapters.load_model`.
    texts : str or sequence of str
        Of any length.
    views : sequence of str
        Some of ``linear_gaussian``, ``jacobian``, ``attention``, ``readout``.
    parts : sequence of str
        Parts of a block for the first two views, see :func:`~infogeo_adapters.capture_channels`.
    blocks : sequence of int, optional
        Counted from 1; all by default.
    noise : float or str
        The stated noise: a signal-to-noise ratio in decibels, or a number format such as ``"bfloat16"``.
    power : float
        Power of the input allowed, as a multiple of that of the actual inputs.
    window : int
        Tokens in a window, special ones counted. Shorter texts, and the ends of texts, are shorter windows; attention
        is measured on whole windows only, where there are any.
    max_tokens : int
        Most tokens; of more, windows spread evenly over the texts are taken.
    jacobian_tokens : int
        Tokens at which Jacobians are taken.
    attention_windows : int
        Most windows for the heads.
    contexts : int
        Contexts of one channel of the read-out, whose capacity is at most their logarithm and grows with their number;
        the mean is over as many as eight channels. See :func:`infogeo.capacity.readout.readout_capacity`.
    components : int, optional
        Leading principal components for ``linear_gaussian``, see
        :func:`~infogeo.capacity.linear.linear_gaussian_capacity`.
    permutations : int
        Of the null of ``linear_gaussian``; 0 for none.
    level : float
        Coverage of the intervals.
    rng : None, int or numpy.random.Generator
        For what is sampled. The same number gives the same table.
    unit : {"nats", "bits"}
    checkpoint : path, optional
        A file that keeps each block that is done; called again with the same arguments, the work goes on where it was
        cut off. It stays when all is done; delete it then.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of blocks.

    Returns
    -------
    CapacityTable
        What could not be measured is missing from its rows and named in its ``notes``.

    Raises
    ------
    ModelError
        Nothing could be measured.
    TextError
        There is no text, or one is empty.
    ArgumentError
        An argument has no such value, or the checkpoint belongs to other work.
    OutputError
        The checkpoint cannot be written.

    Warns
    -----
    EstimateWarning
        Once, if the data do not support some of the numbers; the ``notes`` say which.

    Notes
    -----
    At its largest the work holds the samples of one block (see :func:`~infogeo_adapters.capture_channels`: 110 MB for
    MiniLM with the 8,192 tokens of the default), its attention on ``attention_windows`` windows (8 H T² bytes each),
    and eight times ``contexts`` times the vocabulary in float64, three times over.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> text = "The dog chased the cat, and the cat ran up the tree and looked down at the dog."
    >>> table = measure_capacity(load_model(), text, views=["attention"], blocks=[1], window=8, unit="bits")
    >>> [item.head for item in table.items], table.items[0].capacity.n, round(table.items[0].capacity.ceiling, 6)
    ([1, 2, 3, 4, 5], 3, 3.0)
    """
    if not isinstance(model, LanguageModel):
        raise ArgumentError(f"model: found {type(model).__name__}, wanted what load_model(...) returns")
    per_nat(unit)
    given = [texts] if isinstance(texts, str) else list(_texts(texts))
    plan = Plan(
        views=_views(views), parts=check_parts(parts), noise=read_noise(noise), power=_positive("power", power),
        jacobian_tokens=check_count("jacobian_tokens", jacobian_tokens, 1),
        attention_windows=check_count("attention_windows", attention_windows, 1),
        contexts=check_count("contexts", contexts, 2),
        components=None if components is None else check_count("components", components, 1),
        permutations=check_count("permutations", permutations, 0), level=_share("level", level), unit=unit,
    )
    numbers = check_blocks(model, blocks)
    rows, notes = _windows(model, given, check_count("window", window), check_count("max_tokens", max_tokens, 1))
    jobs = layers_of(model, numbers, plan, everything=blocks is None)
    record = Record(checkpoint, _fingerprint(model, rows, plan, jobs), _seed(rng))
    items: list[Measured] = []
    said: dict[str, list[str]] = {}
    for done, block in enumerate(jobs):
        if progress is not None:
            progress(done, len(jobs))
        found, doubts = record.read(block)
        if found is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", EstimateWarning)  # told once, at the end
                found, doubts = measure_block(model, rows, block, plan, np.random.default_rng([record.seed, block]))
            record.write(block, found, doubts)
        items += found
        for where, what in doubts:
            said.setdefault(what, []).append(where)
    if progress is not None:
        progress(len(jobs), len(jobs))
    notes += [f"{_places(where)}: {what}" for what, where in said.items()]
    if not items:
        raise ModelError(f"{model.name}: nothing could be measured; {'; '.join(notes)}")
    doubtful = sum(bool(item.capacity.warnings) for item in items)
    if doubtful:
        warnings.warn(
            f"measure_capacity: {doubtful} of {len(items)} capacities come with warnings; see the notes of the table",
            EstimateWarning, stacklevel=2,
        )
    source = model.current_source().with_options(
        window=window, noise=plan.noise, power=plan.power, max_tokens=max_tokens, jacobian_tokens=jacobian_tokens,
        attention_windows=attention_windows, contexts=contexts,
    )
    source = replace(source, seed=record.seed, text_hash=_hash(given))
    return CapacityTable(
        items=tuple(items), unit=unit, window=window, n_windows=len(rows),
        n_tokens=sum(int((~row.special).sum()) for row in rows), level=plan.level, notes=tuple(notes), source=source,
    )


def _texts(texts: Any) -> Iterable[str]:
    from infogeo_adapters.transformers.alignment import check_text

    if isinstance(texts, bytes) or not isinstance(texts, Sequence):
        check_text(texts)
    if not len(texts):
        check_text("")
    checked: list[str] = [check_text(text) for text in texts]
    return checked


def _views(views: Sequence[str]) -> tuple[str, ...]:
    given = (views,) if isinstance(views, str) else tuple(views)
    wrong = [view for view in given if view not in VIEWS]
    if wrong or not given:
        found = repr(wrong[0]) if wrong else "none"
        raise ArgumentError(f"views: found {found}, wanted one or more of {', '.join(VIEWS)}")
    return tuple(dict.fromkeys(given))


def _positive(name: str, value: float) -> float:
    number = check_number(name, value)
    if not 0 < number < np.inf:
        raise ArgumentError(f"{name}: found {number}, wanted a finite number above 0")
    return number


def _share(name: str, value: float) -> float:
    number = check_number(name, value)
    if not 0 < number < 1:
        raise ArgumentError(f"{name}: found {number}, wanted a number between 0 and 1, such as 0.95")
    return number


def _windows(
    model: LanguageModel, texts: Sequence[str], window: int, most: int
) -> tuple[list[Tokens], list[str]]:
    """The windows that are measured, spread evenly over all there are, and what to say of it."""
    from infogeo_adapters.transformers.token_rows import token_windows

    rows = token_windows(model, texts, window)
    counts = np.array([int((~row.special).sum()) for row in rows])
    total = int(counts.sum())
    if total <= most:
        return rows, []
    kept = max(1, int(most / counts.mean()))
    chosen = np.unique(np.linspace(0, len(rows) - 1, kept).round().astype(int))
    while len(chosen) > 1 and counts[chosen].sum() > most:
        chosen = chosen[:-1]
    note = f"of {total} tokens {int(counts[chosen].sum())} were measured, in windows spread evenly over the text"
    return [rows[i] for i in chosen], [note]


def _places(where: Sequence[str]) -> str:
    """Where something was found, shortened where it is in many places."""
    return where[0] if len(where) == 1 else f"{where[0]} and {len(where) - 1} more"


def _seed(rng: Any) -> int | None:
    """A seed for the work; None leaves it to the checkpoint, if there is one."""
    if rng is None:
        return None
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(2**32))
    random_generator(rng)
    return check_count("rng", rng, 0)


def _hash(texts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _fingerprint(model: LanguageModel, rows: Sequence[Tokens], plan: Plan, jobs: Sequence[int]) -> str:
    """SHA-256 of everything that the numbers depend on, but for the seed."""
    source = model.current_source()
    digest = hashlib.sha256(f"{source.content_hash} {source.versions!r} {plan!r} {list(jobs)!r}".encode())
    for row in rows:
        digest.update(row.ids.tobytes() + b"|")
    return digest.hexdigest()
