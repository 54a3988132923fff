"""One block of a model, measured as a channel in each view: from a pass of the model to the views on arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from infogeo._checks import FloatArray, IntArray, check_number
from infogeo._units import Unit
from infogeo.capacity.results import ChannelSamples, LayerCapacity, Part
from infogeo.errors import ArgumentError, DomainError, InfogeoError, ModelError, ShapeError
from infogeo.results import Source, to_plain
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.parts import PROJECTIONS

if TYPE_CHECKING:
    from infogeo_adapters.transformers.alignment import Tokens

VIEWS = ("linear_gaussian", "jacobian", "attention", "readout")
CHANNELS = 8
"""Channels of so many contexts for the read-out, of which the mean is taken."""
STRETCHES = 20
"""Neighboring windows are alike, so that not windows but so many stretches of them are the groups of the intervals."""
Noise = float | str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is measured and how; see :func:`infogeo_adapters.measure_capacity`."""

    views: tuple[str, ...]
    parts: tuple[Part, ...]
    noise: Noise
    power: float
    jacobian_tokens: int
    attention_windows: int
    contexts: int
    components: int | None
    permutations: int
    level: float
    unit: Unit


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """The capacity of one block, part or head."""

    block: int
    """Counted from 1; 0 is the embedding, which can be read out too."""
    part: str
    """A part of a block, ``head``, or ``readout``."""
    head: int | None
    """Counted from 1, for heads."""
    capacity: LayerCapacity

    def to_dict(self) -> dict[str, Any]:
        """As plain Python values."""
        return {"block": self.block, "part": self.part, "head": self.head, "capacity": to_plain(self.capacity)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Measured:
        """The inverse of :meth:`to_dict`."""
        given = dict(plain["capacity"])
        for name in ("capacity_interval", "rate_interval", "warnings"):
            given[name] = None if given[name] is None else tuple(_number(v) for v in given[name])
        for name in ("capacity", "rate", "ceiling", "bias", "null", "p_value"):
            given[name] = _number(given[name])
        given["source"] = Source(**{f.name: given["source"][f.name] for f in fields(Source)})
        return cls(block=plain["block"], part=plain["part"], head=plain["head"], capacity=LayerCapacity(**given))


def _number(value: Any) -> Any:
    """NaN and infinity, which JSON keeps as texts, as numbers again."""
    return float(value) if value in ("nan", "inf", "-inf") else value


Doubt = tuple[str, str]
"""Where, and what is wrong there."""


def read_noise(noise: Noise) -> Noise:
    """The stated noise, checked: decibels or the name of a number format."""
    if isinstance(noise, str):
        from infogeo.capacity.jacobian import Format

        if noise not in get_args(Format):
            raise ArgumentError(
                f"noise: found {noise!r}, wanted a signal-to-noise ratio in decibels or one of "
                f"{', '.join(get_args(Format))}"
            )
        return noise
    number = check_number("noise", noise)
    if not -100 <= number <= 300:
        raise ArgumentError(f"noise: found {number} dB, wanted a signal-to-noise ratio from -100 to 300 dB")
    return number


def layers_of(model: LanguageModel, blocks: Sequence[int], plan: Plan, *, everything: bool) -> list[int]:
    """The blocks to measure; with all of them the embedding too, where it can be read out."""
    return [0, *blocks] if everything and "readout" in plan.views and model.has_head else list(blocks)


def stretches_of(rows: Sequence[Tokens]) -> IntArray:
    """(windows,) the stretch of neighboring windows that each is in; a few windows are a stretch each.

    Stretches have about as many tokens each. Taking windows of one text for independent makes intervals too narrow, by
    a factor of 1.7 in the median over the parts of the bundled model.
    """
    if len(rows) <= STRETCHES:
        return np.arange(len(rows))
    sizes = np.array([int((~row.special).sum()) for row in rows])
    middles = np.cumsum(sizes) - sizes / 2
    return np.asarray(np.unique((middles * STRETCHES / sizes.sum()).astype(np.int64), return_inverse=True)[1])


def measure_block(
    model: LanguageModel, rows: Sequence[Tokens], block: int, plan: Plan, rng: np.random.Generator
) -> tuple[list[Measured], list[Doubt]]:
    """All that is measured of one block, and what was not, with its reason."""
    from infogeo_adapters.transformers.channels import capture_rows
    from infogeo_adapters.transformers.parts import find_parts

    doubts: list[Doubt] = []
    parts: list[Part] = []
    if block and {"linear_gaussian", "jacobian"} & {*plan.views}:
        found = find_parts(model.model)[block - 1]
        for part in plan.parts:
            if part in found.reasons:
                doubts.append((f"block {block}, {part}", f"the part was not found: {found.reasons[part]}"))
            else:
                parts.append(part)
    read: list[Part] = ["block"] if "readout" in plan.views and model.has_head else []
    wanted = tuple(dict.fromkeys([*parts, *read]))
    captured = capture_rows(model, rows, parts=wanted, blocks=[max(block, 1)]) if wanted else []
    samples: dict[str, ChannelSamples] = {s.part: s for s in captured}
    stretch = stretches_of(rows)
    made: list[Measured] = []
    for view in plan.views:
        if view == "linear_gaussian":
            made += _each(parts, block, view, doubts, lambda part: _linear(samples[part], stretch, plan, rng))
        elif view == "jacobian":
            made += _each(
                parts, block, view, doubts, lambda part: _jacobian(model, rows, samples[part], stretch, plan, rng)
            )
        elif view == "attention" and block:
            with _noted(doubts, f"attention, block {block}"):
                made += _heads(model, rows, stretch, block, plan, doubts)
        elif view == "readout":
            with _noted(doubts, f"readout, block {block}"):
                made.append(_readout(model, samples.get("block"), stretch, block, plan, rng))
    for item in made:
        doubts += [(f"{item.capacity.view}, {item.capacity.name}", warning) for warning in item.capacity.warnings]
    return made, doubts


class _noted:  # used as a function
    """Errors of the library inside become doubts."""

    def __init__(self, doubts: list[Doubt], where: str) -> None:
        self.doubts, self.where = doubts, where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> bool:
        if isinstance(error, InfogeoError):
            self.doubts.append((self.where, str(error)))
            return True
        return False


def _each(
    parts: Sequence[Part], block: int, view: str, doubts: list[Doubt], measure: Callable[[Part], LayerCapacity]
) -> Iterator[Measured]:
    if not block:
        return
    for part in parts:
        name = f"block {block}" if part == "block" else f"block {block}, {part}"
        with _noted(doubts, f"{view}, {name}"):
            found = measure(part)
            yield Measured(block=block, part=part, head=None, capacity=replace(found, name=name))


def _linear(sample: ChannelSamples, stretch: IntArray, plan: Plan, rng: np.random.Generator) -> LayerCapacity:
    from infogeo.capacity.linear import linear_gaussian_capacity

    n, p, q = len(sample.x), sample.x.shape[1], sample.y.shape[1]
    stated = sample.part in PROJECTIONS
    wanted = _samples_wanted(p, q, stated, plan.components)
    if n < wanted:
        raise DomainError(
            f"{n} tokens are too few to fit a linear channel of {p} to {q} components, wanted at least {wanted}; give "
            "more text, or project with components="
        )
    noise, said = _stated(sample, plan.noise) if stated else ("residual", "")
    x = np.asarray(sample.x, dtype=np.float64)
    found = linear_gaussian_capacity(
        x, sample.y, groups=stretch[sample.texts], noise=noise,
        power=None if plan.power == 1 else plan.power * _power(x),
        components=plan.components, permutations=plan.permutations, level=plan.level, rng=rng, unit=plan.unit,
    )
    return replace(found, noise=f"stated, {said}") if stated else found


def _samples_wanted(p: int, q: int, stated: bool, components: int | None) -> int:
    """A tenth more than the directions to fit, since the largest fold is left out in turn."""
    each = (components or p) + (0 if stated else components or q)
    return int(1.2 * each) + 12


def _power(x: FloatArray) -> float:
    return float(x.var(axis=0, ddof=1).sum())


def _stated(sample: ChannelSamples, noise: Noise) -> tuple[Any, str]:
    """Stated noise on the outputs of a part: a variance or variances, and what to say of it."""
    y = np.asarray(sample.y, dtype=np.float64)
    if isinstance(noise, str):
        from infogeo.capacity.jacobian import number_format_noise

        variances = number_format_noise(y, noise)
        return variances, f"rounding to {noise}, total variance {variances.sum():.6g} in {y.shape[1]} components"
    if len(y) < 2:
        raise ShapeError("one token has no variance, so that no noise follows from a signal-to-noise ratio; give more")
    variance = float(y.var(axis=0, ddof=1).mean()) / 10 ** (noise / 10)
    if not variance > 0:
        raise DomainError("the output does not vary, so that no noise follows from a signal-to-noise ratio")
    below = f"{noise:g} dB below the output"
    return variance, f"white, variance {variance:.6g} in each of {y.shape[1]} components ({below})"


def _jacobian(
    model: LanguageModel, rows: Sequence[Tokens], sample: ChannelSamples, stretch: IntArray, plan: Plan,
    rng: np.random.Generator,
) -> LayerCapacity:
    from infogeo.capacity.jacobian import jacobian_capacity
    from infogeo_adapters.transformers.part_jacobians import jacobians_of_rows

    noise, said = _stated(sample, plan.noise)
    x = np.asarray(sample.x, dtype=np.float64)
    if len(x) < 2:
        raise ShapeError("one token has no variance, so that there is no input law; give more text")
    exact = sample.part in PROJECTIONS
    taken = jacobians_of_rows(
        model, rows, part=sample.part, block=sample.block, tokens=1 if exact else plan.jacobian_tokens, rng=rng
    )
    known = len(x) >= 2 * x.shape[1]
    found = jacobian_capacity(
        taken.jacobians, noise_cov=noise, power=plan.power * _power(x), input_cov=np.cov(x.T) if known else None,
        groups=stretch[taken.texts], level=plan.level, unit=plan.unit,
    )
    if exact:  # one Jacobian is all there are, so that it has no error
        found = replace(found, n=len(x), warnings=())
    doubt = (
        f"{len(x)} tokens do not tell the covariance of {x.shape[1]} components, so there is no rate; give at least "
        f"{2 * x.shape[1]}"
    )
    return replace(found, noise=f"stated, {said}", warnings=found.warnings if known else (*found.warnings, doubt))


def _heads(
    model: LanguageModel, rows: Sequence[Tokens], stretch: IntArray, block: int, plan: Plan, doubts: list[Doubt]
) -> list[Measured]:
    from infogeo.capacity.heads import attention_capacity
    from infogeo_adapters.transformers.attention_rows import attention_of_rows
    from infogeo_adapters.transformers.eager import row_sum_tolerance
    from infogeo_adapters.transformers.stack import find_stack

    longest = max(len(row.ids) for row in rows)
    whole = np.array([i for i, row in enumerate(rows) if len(row.ids) == longest])
    if 2 * len(whole) < len(rows):
        doubts.append((f"attention, block {block}", (
            f"heads are measured on the {len(whole)} of {len(rows)} windows that have {longest} tokens, so that their "
            "ceiling is one; to measure on more, give longer texts or a smaller window"
        )))
    most = min(plan.attention_windows, len(whole))
    chosen = whole[np.unique(np.linspace(0, len(whole) - 1, most).round().astype(int))]
    maps = attention_of_rows(model, [rows[i] for i in chosen], block)
    least = 1 - row_sum_tolerance(model.model)
    dropped = any(float(m.sum(axis=-1).min()) < least for m in maps)  # a sink, as in GPT-OSS
    found = attention_capacity(
        maps, causal=find_stack(model.model).causal, outside=dropped, groups=stretch[chosen], level=plan.level,
        unit=plan.unit,
    )
    each = found if isinstance(found, list) else [found]
    return [
        Measured(block=block, part="head", head=h, capacity=replace(c, name=f"block {block}, head {h}"))
        for h, c in enumerate(each, start=1)
    ]


def _readout(
    model: LanguageModel, sample: ChannelSamples | None, stretch: IntArray, block: int, plan: Plan,
    rng: np.random.Generator,
) -> Measured:
    from scipy.special import log_softmax

    from infogeo.capacity.readout import readout_capacity
    from infogeo_adapters.transformers.readout import find_readout

    if sample is None:
        raise ModelError(f"{model.name} predicts no tokens, so that there is nothing to read out")
    states = sample.x if block == 0 else sample.y
    chosen = np.sort(rng.permutation(len(states))[: CHANNELS * plan.contexts])
    log_probs = np.concatenate([log_softmax(z, axis=1) for _, z in find_readout(model).chunks(states[chosen])])
    found = readout_capacity(
        log_probs, contexts=plan.contexts, groups=stretch[sample.texts[chosen]], level=plan.level, rng=rng,
        unit=plan.unit,
    )
    name = "the embedding" if block == 0 else f"after block {block}"
    return Measured(block=block, part="readout", head=None, capacity=replace(found, name=name))
