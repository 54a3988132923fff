"""The errors infogeo raises: one base class, and a leaf for each condition a caller can act on."""

from __future__ import annotations

from typing import Any


class InfogeoError(Exception):
    """Base of all errors of infogeo; its message says what was found, what was wanted and what to do."""


class ShapeError(InfogeoError, ValueError):
    """An array has another shape than the call needs."""


class DomainError(InfogeoError, ValueError):
    """A value lies outside the set where the quantity is defined (a negative variance, a NaN, ...)."""


class ArgumentError(InfogeoError, ValueError):
    """An argument names something that does not exist (a layer, a word, a format, a measure)."""


class UnsupportedFamilyError(InfogeoError, TypeError):
    """A measure has no formula for the given pair of families."""


class TextError(InfogeoError, ValueError):
    """A text cannot be used: empty, too long for the model, not UTF-8."""


class ModelError(InfogeoError, RuntimeError):
    """A model cannot be loaded, or does not offer what was asked of it."""


class OutputError(InfogeoError, OSError):
    """A file or folder cannot be written."""


class FormatError(InfogeoError, ValueError):
    """A file is malformed, or a value cannot be represented in the format asked for."""


class MissingDependencyError(InfogeoError, ImportError):
    """A function needs an optional package that is not installed; the message names the extra."""


class ConvergenceError(InfogeoError, RuntimeError):
    """An iteration ended without meeting its tolerance.

    Attributes
    ----------
    result : object
        What the iteration had reached, with its certificate.
    """

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self.result = result
