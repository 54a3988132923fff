"""What was found in a model and whether it can be read: one line for each thing, with the value measured."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infogeo._checks import check_count
from infogeo.errors import ArgumentError, InfogeoError
from infogeo.results import Result, Source

if TYPE_CHECKING:
    from infogeo_adapters.transformers.loading import LanguageModel

WIDTH = 110
"""Columns of the text."""


@dataclass(frozen=True, kw_only=True)
class Check(Result):
    """One thing that was looked at."""

    name: str
    found: str
    """What was found and measured, in words."""
    reason: str | None = None
    """What does not work and what to do; None if all is well."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The numbers behind the words."""

    @property
    def well(self) -> bool:
        """True if nothing is in the way."""
        return self.reason is None


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelReport(Result):
    """What :func:`inspect_model` found in a model, check by check."""

    checks: tuple[Check, ...]
    sample: str
    """The text that was run."""
    source: Source

    @property
    def well(self) -> bool:
        """True if everything infogeo offers works on this model."""
        return all(check.well for check in self.checks)

    def check(self, name: str) -> Check:
        """The check of that name.

        Raises
        ------
        ArgumentError
            If there is none; the message lists those there are.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise ArgumentError(f"check {name!r} does not exist; there are: {', '.join(c.name for c in self.checks)}")

    def text(self, *, width: int = WIDTH) -> str:
        """The report as aligned lines: a tick or a cross, the name, what was found, and under it what does not work.

        Parameters
        ----------
        width : int
            Columns after which lines are broken.

        Returns
        -------
        str

        Raises
        ------
        ArgumentError
            If width is no whole number of at least 1.
        """
        check_count("width", width, 1)
        column = 4 + max((len(check.name) for check in self.checks), default=0)
        lines = [self.summary()]
        for check in self.checks:
            said = [check.found] if check.well else [check.found, f"→ {check.reason}"]
            begin = f"{'✓' if check.well else '✗'} {check.name}".ljust(column)
            for one in filter(None, said):
                lines += textwrap.wrap(
                    one, max(width, column + 20), initial_indent=begin, subsequent_indent=" " * column,
                    break_long_words=False, break_on_hyphens=False,
                )
                begin = " " * column
        return "\n".join(lines)

    def rows(self) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        return ("check", "well", "found", "reason"), [(c.name, c.well, c.found, c.reason) for c in self.checks]

    def summary(self) -> str:
        bad = [check.name for check in self.checks if not check.well]
        fail = "fails" if len(bad) == 1 else "fail"
        end = f"{len(bad)} of {len(self.checks)} checks {fail}: {', '.join(bad)}" if bad else "all is well"
        return f"{self.source.model} ({self.source.architecture}): {end}"


def inspect_model(model: LanguageModel, *, sample: str | None = None) -> ModelReport:
    """Run a few short passes and say what was found in a model, and what infogeo can do with it.

    What is looked at: the weights, the blocks of each stack, whether a token sees later ones, the context length and
    where it is written, the way from the last block to the logits and how far it is from the model's own logits, the
    rows of the head without a token, the prediction of the sample beside chance, attention, the stages inside a block,
    the tokenizer, how it covers the words of the sample, and padding on either side. Nothing is changed on the model.

    Parameters
    ----------
    model : LanguageModel
        From :func:`infogeo_adapters.load_model`.
    sample : str, optional
        The text to run, by default an English sentence; cut where it is longer than the context.

    Returns
    -------
    ModelReport
        Each check with its values and, where something does not work, the reason; ``report.well`` is True if there is
        none, and ``print(report.text())`` shows all.

    Raises
    ------
    ArgumentError
        If the model was not made by ``load_model``.
    TextError
        If the sample is empty or no text.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> report = inspect_model(load_model())
    >>> report.well, report.check("read-out").values["path"], report.check("self-check").values["difference"]
    (True, ('model.norm', 'lm_head'), 0.0)
    """
    from infogeo_adapters import _doctor_checks as checks
    from infogeo_adapters._doctor_patient import examine
    from infogeo_adapters.transformers.loading import LanguageModel

    if not isinstance(model, LanguageModel):
        raise ArgumentError(f"model: found {type(model).__name__}, wanted a LanguageModel; make it with load_model()")
    patient = examine(model, sample)
    found: list[Check] = []
    for name, look in checks.CHECKS.items():
        try:
            result = look(patient)
        except InfogeoError as error:
            result = Check(name=name, found="", reason=str(error))
        except Exception as error:  # one check that breaks must not hide the others
            said = f"{type(error).__name__}: {error} (this check itself failed; please report it)"
            result = Check(name=name, found="", reason=said)
        found += [] if result is None else [result]
    return ModelReport(checks=tuple(found), sample=patient.item.text, source=model.current_source())


def joined(parts: Sequence[str]) -> str:
    """Parts of a sentence, with semicolons."""
    return "; ".join(part for part in parts if part)
