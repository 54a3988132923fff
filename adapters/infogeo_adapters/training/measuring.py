"""Everything that is measured of a model on its probe batch, at whatever step of training it stands."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo._checks import FloatArray
from infogeo.errors import ArgumentError, ModelError
from infogeo.training import QUANTITIES, RunFacts, TrainingRecord
from infogeo_adapters.training._measure_attention import HeadMeter
from infogeo_adapters.training._measure_blocks import activation_bounds, measure_blocks, twins
from infogeo_adapters.training._measure_gradients import measure_gradients
from infogeo_adapters.training._measure_parts import measure_heads, measure_parts
from infogeo_adapters.training._measure_pass import Passed, run_watched
from infogeo_adapters.training._measure_predictions import cross_entropy, is_time_major, measure_predictions
from infogeo_adapters.training._measure_probes import (
    Exchanges,
    future_sensitivity,
    large_carry,
    muted_carry,
    order_sensitivity,
    own_states,
    scale_response,
)
from infogeo_adapters.training._measure_setup import (
    ATTENTION,
    GRADIENTS,
    LENS,
    MEASURED,
    asked,
    check_targets,
    format_name,
    headroom,
    untouched,
    why_missing,
)
from infogeo_adapters.training._measure_states import choose_rows, measure_states
from infogeo_adapters.training._measure_structure import call_model, find_structure
from infogeo_adapters.training.probe import ProbeBatch, bare, is_transformers, vocabulary_of
from infogeo_adapters.transformers.locks import lock_of

if TYPE_CHECKING:
    import torch

    from infogeo_adapters.transformers.attention_function import Call

__all__ = ["MEASURED", "ProbeMeter"]

TOKENS = 1024
"""Most tokens that states are kept of for the quantities of states and blocks."""


class ProbeMeter:
    r"""Measures a model on a probe batch again and again; what it is made of is found once, when this is made.

    The model is left as it was, also after exceptions: its mode, gradients, hooks, attention implementation, and the
    state of the random numbers. Nothing that the model computes, NaN least of all, makes :meth:`measure` fail; what
    cannot be measured is NaN. The quantities and their formulas are those of
    :data:`infogeo.training.QUANTITIES` that are not live; what they say more exactly:

    ``state_norm`` to ``differential_entropy``
        Of at most 1024 tokens, drawn once; padding is left out. ``effective_rank`` is of the singular values of
        centered states. ``differential_entropy`` is of the leading principal components, all or a quarter of the number
        of tokens. ``headroom`` counts what the modules inside the block put out, and its logits of attention, too;
        neither it nor ``nonfinite`` counts padding.
    ``matrix_entropy``, ``input_information``, ``target_information``
        Matrix-based, the entropy of order one and the informations of order two, of at most 256 tokens. The kernel of
        states is Gaussian with half the median distance of the tokens as width, for each layer its own; that of targets
        is one for equal tokens, else zero. From both informations is taken what they are on average with the tokens in
        eight other orders, so that zero is chance.
    ``lens_entropy``, ``lens_loss``, ``path_length``
        The blocks are passed over with the state of one layer, so that the model itself reads it out.
    ``future_sensitivity``, ``order_sensitivity``
        Of at most 8 texts. The first, of causal models, is :math:`\lVert h' - h \rVert / \lVert h \rVert` before the
        middle of the texts when the tokens after it are others. The second is that number after the middle when tokens
        before it change places, over what it is when they are replaced; NaN where nothing depends on them.
    ``capacity``, ``rate``, ``utilization``
        :func:`~infogeo.capacity.linear.linear_gaussian_capacity` on the leading 24 principal components.
    ``large_carry``
        Beside an input a thousand times as large, what a block adds behind a norm is nothing: the slope is one where
        there is a residual stream, zero where there is none or the output is normalized. NaN in half precision.
    ``muted_carry``
        The output projection of attention and the last map of the feed-forward give zeros, so that what comes out of
        the block came by its residual stream. Tokens are scaled to norm one and centered. NaN where these are unknown.
    ``scale_response``
        With what the block adds, or with what it returns, whichever changes less.
    ``dead_units``, ``saturated_units``
        Hidden units of the feed-forward that stay within a thousandth of the root mean square of all on every token;
        activations within a thousandth of a bound, of bounded functions only.
    ``fisher_trace``, ``gradient_snr``
        Over 8 groups of texts: mean of targets in the group times squared norm of its gradient; squared norm of the
        mean gradient over the squared standard error of it.
    ``twin``
        Largest cosine of all matrices of a block, each less its mean, with those of another one.
    ``attention_entropy``, ``attention_logits``, ``attention_capacity``, ``head_output``
        Entropy over the logarithm of the tokens in sight, where these are two or more. Largest absolute logit among the
        tokens in sight, mean over queries; where only weights are given out, half the range of their logarithms.
        Capacity as a channel from 24 queries to tokens, mean over four texts (fewer in models of many heads). Mean norm
        of what a head adds; zero for all heads of a block that add nothing.

    Parameters
    ----------
    model : torch.nn.Module or LanguageModel
        Of transformers, or any other with ``blocks``. Its weights may change between measurements.
    probe : ProbeBatch
    quantities : sequence of str, optional
        Which to measure, by default all.
    blocks : str or sequence of modules, optional
        A dotted name or the modules themselves, for a module that is none of transformers: each takes states (texts,
        tokens, d) first and returns them alone or first.
    number_format : str, optional
        The format that training computes in, for ``headroom``, if it is not that of the weights: "float16" or
        "bfloat16" under autocast.

    Attributes
    ----------
    missing : dict of str to str
        Quantities that cannot be measured of this model, and why.
    failed : dict of str to str
        What could not be measured the last time although it can be of this model, and why.
    broken_at : str or None
        The first module whose output was NaN or infinite the last time.
    twins : tuple of int
        Of each block the one whose weights are most alike, the last time; 0 where there is none.
    running : bool
        Whether it measures just now, so that hooks of others can tell these passes from those of training.
    depth, width, vocabulary, heads, causal, dtype, n_parameters, architecture
        As in :class:`infogeo.training.RunFacts`.

    Raises
    ------
    ArgumentError
        There is no such quantity or module, or the probe batch is none.
    ModelError
        No blocks were found, or the model does not run.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> from infogeo_adapters.training.probe import probe_batch
    >>> model = load_model()
    >>> meter = ProbeMeter(model, probe_batch(model), quantities=["effective_rank", "probe_loss"])
    >>> found = meter.measure()
    >>> found["effective_rank"].shape, 3 < float(found["probe_loss"]) < 6
    ((7,), True)
    """

    def __init__(
        self, model: Any, probe: ProbeBatch, *, quantities: Sequence[str] | None = None, blocks: Any = None,
        number_format: str | None = None,
    ) -> None:
        if not isinstance(probe, ProbeBatch):
            raise ArgumentError(f"probe: found {type(probe).__name__}, wanted what probe_batch(model, ...) returns")
        self.model, self.probe = bare(model), probe
        self._asked = asked(quantities)
        self._format = format_name(number_format)
        net = self.model
        with lock_of(net):
            self.structure = find_structure(net, blocks)
            first = self._dry_run()
        self.depth = len(first.calls)
        self.width = int(first.calls[0].x.shape[-1])
        self.modules = tuple(call.module for call in first.calls)
        """The module of each block; one module may be several blocks."""
        logits = first.logits
        self.vocabulary = int(logits.shape[-1]) if logits is not None else vocabulary_of(net) or 0
        if logits is not None:
            check_targets(probe, self.vocabulary, type(net).__name__)
        self.heads = tuple(self.structure.heads.get(b, 0) for b in range(1, self.depth + 1))
        self.causal = self.structure.causal or (not is_transformers(net) and probe.objective == "next token")
        self.dtype = str(first.calls[0].y.dtype).removeprefix("torch.")
        self.n_parameters = sum(p.numel() for p in net.parameters())
        self.architecture = type(net).__name__
        self._bounds = self._activation_bounds()
        rng = np.random.default_rng(0)
        self._rows = choose_rows(probe.mask, probe.targets, TOKENS, rng)
        self._exchanges = Exchanges(probe.ids, probe.mask, rng)
        why = why_missing(
            self.structure, self.modules, probe, causal=self.causal, heads=any(self.heads), logits=logits is not None,
            bounded=bool(self._bounds), targets=len(self._rows.target_gram),
        )
        self.missing = {name: reason for name, reason in why.items() if name in self._asked}
        self.failed: dict[str, str] = {}
        self.broken_at: str | None = None
        self.twins: tuple[int, ...] = ()
        self.running = False

    def measure(self) -> dict[str, FloatArray]:
        """Measure the model as it is now.

        Returns
        -------
        dict of str to ndarray
            By name of the quantity, all but those in ``missing``; shapes () for the model, (L + 1) for states, (L) for
            blocks, (L, most heads) for heads. NaN where a value could not be measured.
        """
        self.failed, self.broken_at, self.twins = {}, None, ()
        found = {n: self._nothing(n) for n in self._asked if n not in self.missing}
        with lock_of(self.model), untouched(self.model, self._device()), np.errstate(all="ignore"):
            self.running = True
            try:
                self._measure(found)
            finally:
                self.running = False
        return found

    def record(self, step: int) -> TrainingRecord:
        """Measure the model as it is now, as the record of a step."""
        start = time.perf_counter()
        values = self.measure()
        return TrainingRecord(
            step=step, values=values, broken_at=self.broken_at, broken_pass="forward" if self.broken_at else None,
            twins=self.twins, seconds=time.perf_counter() - start,
        )

    def facts(self, *, run: str, every: int, model: str | None = None) -> RunFacts:
        """What does not change in a run of this model on this probe batch."""
        return RunFacts(
            run=run, model=model or self.architecture, architecture=self.architecture, depth=self.depth,
            heads=self.heads, width=self.width, vocabulary=self.vocabulary, n_parameters=self.n_parameters,
            causal=self.causal, objective=self.probe.objective, dtype=self.dtype, probe=self.probe.hash,
            probe_shape=self.probe.shape, every=every, missing=dict(self.missing),
        )

    # How it goes about it

    def _wanted(self, name: str) -> bool:
        return name in self._asked and name not in self.missing

    def _tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        import torch

        probe, device = self.probe, self._device()
        ids, mask, targets = (torch.from_numpy(np.array(a)) for a in (probe.ids, probe.mask, probe.targets))
        return ids.to(device), mask.to(device), targets.to(device)

    def _device(self) -> torch.device:
        """Where the model is now."""
        import torch

        return next((p.device for p in self.model.parameters() if p.is_floating_point()), torch.device("cpu"))

    def _dry_run(self) -> Passed:
        """A pass over two texts, to see what runs."""
        ids, mask, _ = self._tensors()
        with untouched(self.model, self._device()):
            try:
                return run_watched(self.structure, ids[:2], mask[:2])
            except ModelError:
                raise
            except Exception as error:
                raise ModelError(
                    f"{type(self.model).__name__} does not run on the probe batch ({type(error).__name__}: {error}); "
                    f"it must run on token ids (and attention_mask) alone, here of shape "
                    f"{self.probe.shape}; if these are more tokens than it takes, give tokens= or a shorter probe"
                ) from error

    def _activation_bounds(self) -> dict[int, tuple[float, float]]:
        if "saturated_units" not in self._asked or not self.structure.firsts:
            return {}
        ids, mask, _ = self._tensors()
        with untouched(self.model, self._device()), contextlib.suppress(Exception):  # then nothing is known of them
            return activation_bounds(self.structure, lambda: call_model(self.structure, ids[:1], mask[:1]))
        return {}

    def _nothing(self, name: str) -> FloatArray:
        shapes: dict[str, tuple[int, ...]] = {
            "model": (), "state": (self.depth + 1,), "block": (self.depth,), "head": (self.depth, max(self.heads)),
        }
        return np.full(shapes[QUANTITIES[name].scope], np.nan)

    @contextlib.contextmanager
    def _trying(self, *names: str) -> Iterator[None]:
        """What fails is noted for these quantities, which stay NaN."""
        try:
            yield
        except Exception as error:
            for name in names:
                if self._wanted(name):
                    self.failed[name] = f"{type(error).__name__}: {error}"

    def _measure(self, found: dict[str, FloatArray]) -> None:
        import torch

        ids, mask, targets = self._tensors()
        passed, heads = self._pass(ids, mask)
        if passed is None:
            return
        time_major = is_time_major(passed, ids)
        states, real = passed.states(time_major), mask.bool()
        bad = [float((~s[real].isfinite()).double().mean()) for s in states]
        if any(bad) or (passed.logits is not None and not bool(passed.logits[real].isfinite().all())):
            self.broken_at = passed.broken_at
        with self._trying("nonfinite", "headroom"):
            room = headroom(passed, heads, states, real, self._format)
            self._put(found, {"nonfinite": np.array(bad), "headroom": room})
        rows = self._rows
        places = torch.from_numpy(rows.texts).to(ids.device), torch.from_numpy(rows.places).to(ids.device)
        layers = [self._rows_of(state, places) for state in states]
        names = [n for n, q in QUANTITIES.items() if q.scope == "state"]
        with self._trying(*(n for n in names if n not in ("lens_entropy", "lens_loss"))):
            self._put(found, measure_states(layers, rows, self._wanted))
        with self._trying("contribution", "carry", "capacity", "rate", "utilization"):
            pairs = [
                None if x is None or y is None else (x, y)
                for x, y in (self._pair(call, time_major, places) for call in passed.calls)
            ]
            self._put(found, measure_blocks(pairs, rows.texts, self._wanted))
        held = real.T if time_major else real
        if heads is not None:
            measure_heads(heads, found, self._trying)
        measure_parts(self.structure, passed, held, self._bounds, found, self._trying)
        if "twin" in found:
            with self._trying("twin"):
                found["twin"], self.twins = twins(self.modules)
        if self._wanted("probe_loss") and passed.logits is not None:
            found["probe_loss"] = np.array(cross_entropy(passed.logits, targets))
        if any(map(self._wanted, LENS)):
            with self._trying(*LENS):
                values, why = measure_predictions(self.structure, passed, ids, mask, targets, self._wanted)
                self._put(found, values)
                if why:
                    self.failed |= {n: why for n in LENS if self._wanted(n)}
        self._measure_probes(found, passed, held)
        if any(map(self._wanted, GRADIENTS)):
            with self._trying(*GRADIENTS):
                self._put(found, measure_gradients(self.structure, self.modules, ids, mask, targets))

    def _pass(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[Passed | None, HeadMeter | None]:
        """The pass that most is read off; without attention if recording it fails."""
        heads: HeadMeter | None = None
        if any(map(self._wanted, ATTENTION)):
            heads = HeadMeter(
                mask, causal=self.causal, depth=self.depth, heads=max(self.heads), wanted=self._wanted
            )
        on_maps: Callable[[int, torch.Tensor, Call | None], None] | None = None if heads is None else heads.take
        with self._trying(*ATTENTION):
            return run_watched(self.structure, ids, mask, on_maps=on_maps, leaves=True, parts=True), heads
        with self._trying(*self._asked):
            return run_watched(self.structure, ids, mask, leaves=True, parts=True), None
        return None, None

    def _put(self, found: dict[str, FloatArray], values: dict[str, FloatArray]) -> None:
        for name, value in values.items():
            if self._wanted(name) and value.shape == found[name].shape:
                found[name] = value

    def _rows_of(self, state: torch.Tensor, places: tuple[torch.Tensor, torch.Tensor]) -> FloatArray | None:
        array: FloatArray = state[places].double().cpu().numpy()
        return array if np.isfinite(array).all() else None

    def _pair(
        self, call: Any, time_major: bool, places: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[FloatArray | None, FloatArray | None]:
        x, y = (s.transpose(0, 1) if time_major else s for s in (call.x, call.y))
        return self._rows_of(x, places), self._rows_of(y, places)

    def _measure_probes(self, found: dict[str, FloatArray], passed: Passed, real: torch.Tensor) -> None:
        calls = list(enumerate(passed.calls, 1))
        with self._trying("large_carry"):
            if "large_carry" in found:
                found["large_carry"] = np.array([large_carry(call, real) for _, call in calls])
        with self._trying("muted_carry"):
            if "muted_carry" in found:
                found["muted_carry"] = np.array([muted_carry(call, k, self.structure, real) for k, call in calls])
        with self._trying("scale_response"):
            if "scale_response" in found:
                found["scale_response"] = np.array([
                    scale_response(call, real, passed.normalized if k == 1 else None) for k, call in calls
                ])
        if "future_sensitivity" not in found and "order_sensitivity" not in found:
            return
        with self._trying("future_sensitivity", "order_sensitivity"):
            own, time_major = own_states(self.structure, self._exchanges, self._device())
            if "future_sensitivity" in found:
                found["future_sensitivity"] = future_sensitivity(self.structure, self._exchanges, own, time_major)
            if "order_sensitivity" in found:
                found["order_sensitivity"] = order_sensitivity(self.structure, self._exchanges, own, time_major)
