"""What decides the numbers of a run over a treebank, as plain values that a later run can be compared with."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import json
import sys
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infogeo.errors import ArgumentError
from infogeo_adapters.transformers.loading import LanguageModel

if TYPE_CHECKING:
    from infogeo.syntax import DependencyTree
    from infogeo_adapters.treebank.families import GraphFamily
    from infogeo_adapters.treebank.fitting import FittedFamily

Arrays = Mapping[str, NDArray[Any]]
Facts = Mapping[str, Any]
"""What decides numbers, by name, as plain values that JSON knows."""
IN_VARIANTS = "told by the variants"
"""In the metadata of a field: it decides which variants there are and nothing else, so that these tell it."""


def facts_of(family: GraphFamily | FittedFamily) -> dict[str, Any]:
    """What decides the numbers of a family besides model and sentences: its class, kind, variants, options and code.

    Options are its attribute ``options`` (a mapping) if it has one, and otherwise the fields of a dataclass that its
    constructor takes, except those whose name begins with an underscore and those that the variants tell (metadata
    :data:`IN_VARIANTS`). Ask before the family has been prepared.

    Code is the attribute ``revision`` where a family has one, a number that is raised when the same options give other
    numbers, as in families of infogeo. Of other classes it is the source of the class, too, and of those it inherits
    from; comments, docstrings and layout do not count. What a class calls outside of itself, and a class whose source
    cannot be read because it was typed in, can be told apart by ``revision`` only.

    Raises
    ------
    ArgumentError
        The family is no dataclass and has no ``options``, or one of them is nothing that can be compared.
    """
    given = getattr(family, "options", None)
    if isinstance(given, Mapping):
        options = {str(name): value for name, value in given.items()}
    elif dataclasses.is_dataclass(family):
        given_by_user = [f for f in dataclasses.fields(family) if f.init and not f.metadata.get(IN_VARIANTS)]
        fields = [f.name for f in given_by_user if not f.name.startswith("_")]
        options = {name: getattr(family, name) for name in fields}
    else:
        raise ArgumentError(
            f"family {family.name!r}: {type(family).__name__} does not say what its options are, so its scores cannot "
            "be kept in a folder; make it a dataclass, or give it an attribute 'options', a mapping of names to values"
        )
    return {
        "class": f"{type(family).__module__}.{type(family).__qualname__}", "kind": family.kind,
        "variants": hash_of(list(getattr(family, "variants", ()))), **_code_of(family),
        **{f"option {name}": _plain(family.name, name, value) for name, value in options.items()},
    }


def _code_of(family: GraphFamily | FittedFamily) -> dict[str, Any]:
    """The revision of a family, and the hash of the source of classes that are not infogeo's."""
    found = {} if (revision := getattr(family, "revision", None)) is None else {"revision": revision}
    known = sys.stdlib_module_names | {"infogeo", "infogeo_adapters"}
    foreign = [kind for kind in type(family).__mro__ if kind.__module__.partition(".")[0] not in known]
    try:
        sources = [ast.parse(textwrap.dedent(inspect.getsource(kind))) for kind in foreign]
    except (OSError, TypeError, SyntaxError):
        return found
    if sources:
        found["source of its class (SHA-256)"] = hash_of([_without_docstrings(source) for source in sources])
    return found


def _without_docstrings(source: ast.Module) -> str:
    for node in ast.walk(source):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    return ast.dump(source)


def _plain(family: str, name: str, value: Any) -> Any:
    """An option as JSON knows it; arrays and models by their hash, functions by their name."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return _plain(family, name, value.item())
    if isinstance(value, np.ndarray):
        return f"array {value.dtype.str} {value.shape} {digest_of({'': value})}"
    if isinstance(value, LanguageModel):
        return f"model {value.current_source().content_hash}"
    if isinstance(value, np.random.Generator):
        return _plain(family, name, dict(value.bit_generator.state))
    if isinstance(value, Mapping):
        return {str(key): _plain(family, name, inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(family, name, inner) for inner in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(family, name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {"class": type(value).__qualname__, **fields}
    qualified = getattr(value, "__qualname__", None)
    if callable(value) and qualified and "<" not in qualified:
        return f"{value.__module__}.{qualified}"
    raise ArgumentError(
        f"family {family!r}: its option {name} is {value!r}, which cannot be compared with that of an earlier run, so "
        "its scores cannot be kept in a folder; give it an attribute 'options' with plain values"
    )


def hash_of(value: Any) -> str:
    """SHA-256 of a plain value, hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def hash_of_trees(trees: Iterable[DependencyTree]) -> str:
    """SHA-256 of sentences with all that is known of them, hexadecimal."""
    digest = hashlib.sha256()
    for tree in trees:
        plain = [tree.name, tree.text, tree.words, tree.tags, tree.relations, tree.heads.tolist(), tree.spans.tolist()]
        digest.update(bytes.fromhex(hash_of(plain)))
    return digest.hexdigest()


def digest_of(arrays: Arrays) -> str:
    """SHA-256 of arrays with their names, formats and shapes."""
    digest = hashlib.sha256()
    for name, values in sorted(arrays.items()):
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
