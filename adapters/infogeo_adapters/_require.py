"""Optional packages, imported where they are used and missed with a message that names the extra."""

from __future__ import annotations

import importlib
from types import ModuleType

from infogeo.errors import MissingDependencyError


def require(module: str, *, extra: str, caller: str) -> ModuleType:
    """Import an optional package, or say which extra brings it.

    Parameters
    ----------
    module : str
        Import name, for example ``networkx``.
    extra : str
        The extra of infogeo that installs it.
    caller : str
        The public function that needs it, named in the message.

    Returns
    -------
    ModuleType
        The imported module.

    Raises
    ------
    MissingDependencyError
        If the module cannot be imported; the original error is its cause.

    Examples
    --------
    >>> require("json", extra="all", caller="example").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == module.partition(".")[0]
        trouble = f"{caller} needs {module}" if absent else f"{caller} needs {module}, whose import failed ({error})"
        raise MissingDependencyError(f'{trouble}; install it with: pip install "infogeo[{extra}]"') from error
