"""Families of word graphs by name: which there are, and how they are made for a model."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from infogeo.errors import ArgumentError, ModelError
from infogeo_adapters.treebank import (
    attention,
    attention_norms,
    baselines,
    combined,
    ensembles,
    influence,
    local,
    probe,
    relative_attention,
    vectors,
)
from infogeo_adapters.treebank.families import GraphFamily
from infogeo_adapters.treebank.fitting import FittedFamily

if TYPE_CHECKING:
    from infogeo_adapters.transformers.loading import LanguageModel

AnyFamily = GraphFamily | FittedFamily
Factory = Callable[["LanguageModel"], AnyFamily]

FLOW_SECONDS = 120.0
"""Longest that attention flow may take by its estimate; else it is left out."""

FAMILIES: Mapping[str, Factory] = {
    "adjacent words": lambda model: baselines.AdjacentWords(),
    "random tree": lambda model: baselines.RandomTrees(),
    "random projective tree": lambda model: baselines.RandomTrees(projective=True),
    "random edges of gold lengths": lambda model: baselines.RandomEdges(),
    "layer-0 cosine": lambda model: vectors.VectorDistances(model, "cosine", layers=(0,)),
    "cosine": lambda model: vectors.VectorDistances(model, "cosine"),
    "centered cosine": lambda model: vectors.VectorDistances(model, "centered cosine"),
    "Euclidean": lambda model: vectors.VectorDistances(model, "Euclidean"),
    "Fisher-Rao, shared covariance": vectors.SharedCovarianceDistances,
    "Fisher-Rao, normals of components": vectors.ComponentNormalDistances,
    "Fisher-Rao, read-out": vectors.ReadoutDistances,
    "attention head": attention.AttentionHeads,
    "attention head, normalized": lambda model: attention.AttentionHeads(model, normalize=True),
    "attention, head average": attention.AttentionAverages,
    "attention, head average, normalized": lambda model: attention.AttentionAverages(model, normalize=True),
    "attention rollout": attention.AttentionRollout,
    "attention flow": lambda model: attention.AttentionFlow(model, max_seconds=FLOW_SECONDS),
    "value-weighted attention": attention_norms.AttentionNorms,
    "attention head relative to distance": relative_attention.RelativeAttention,
    "attention head relative to distance, read twice": relative_attention.attention_read_twice,
    "attention, head ensemble": attention.HeadEnsembles,
    "influence, word hidden": influence.WordInfluence,
    "influence, word hidden, read-out": lambda model: influence.WordInfluence(model, distribution="readout"),
    "influence, word hidden, read once": influence.read_once,
    "influence, layer by entropy": influence.UnsupervisedInfluence,
    "influence relative to distance": influence.RelativeInfluence,
    "local influence": local.LocalInfluenceGraphs,
    "influence, edge cut": influence.EdgeInfluenceGraphs,
    "influence, edge cut, relative to distance": lambda model: influence.EdgeInfluenceGraphs(model, relative=True),
    "influence, word and edge": combined.JointInfluence,
    "influence, word and edge, without choice": lambda model: combined.JointInfluence(model, choice="none"),
    "influence with attention": combined.InfluenceWithAttention,
    "attention, head ensemble, relative to distance": lambda model: ensembles.RelativeEnsembles(model, of="attention"),
    "influence, ensemble": ensembles.RelativeEnsembles,
    "structural probe": probe.StructuralProbes,
}
"""How each family is made for a model; a family bears the name under which it stands here."""

ON_REQUEST = ("local influence",)
"""Families that are made only if they are named: what they take is more than all others together."""

DEFAULTS = "defaults"
"""Stands among names for all families that are made when none are named."""
UNTRAINED = "untrained: "
"""Begins the names of families of the untrained twin."""
OF_THE_TWIN = ("attention head", "influence, word hidden")
"""Families that are also compared on the untrained twin of the model."""


def family_names() -> tuple[str, ...]:
    """Names of the families that :func:`compare_with_treebank` can make, in the order of its tables.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> {"adjacent words", "attention head"} <= set(family_names())
    True
    """
    return tuple(FAMILIES)


def make_families(
    model: LanguageModel, wanted: Iterable[str | AnyFamily] | None = None
) -> tuple[tuple[AnyFamily, ...], dict[str, str]]:
    """Families for a model, made of names or taken as they are.

    Parameters
    ----------
    model : LanguageModel
    wanted : iterable of str or families, optional
        By default all that there are but those of ON_REQUEST; ``"defaults"`` among names stands for these.

    Returns
    -------
    tuple of families
    dict of str to str
        Of the default families those that the model cannot have, and why.

    Raises
    ------
    ArgumentError
        There is no family of a name, an entry is no family, or two families bear one name.
    ModelError
        A family is asked for that the model cannot have.
    """
    if isinstance(wanted, str):
        raise ArgumentError(f"families: found the text {wanted!r}, wanted a list of names or families")
    found: list[AnyFamily] = []
    refused: dict[str, str] = {}
    for entry in [DEFAULTS] if wanted is None else wanted:
        if entry == DEFAULTS:
            for name in (name for name in FAMILIES if name not in ON_REQUEST):
                try:
                    found.append(FAMILIES[name](model))
                except ModelError as error:
                    refused[name] = str(error)
        elif not isinstance(entry, str):
            found.append(_checked(entry))
        elif entry not in FAMILIES:
            raise ArgumentError(f"families: {unknown_family([entry])}; family_names() lists all {len(FAMILIES)}")
        else:
            try:
                found.append(FAMILIES[entry](model))
            except ModelError as error:
                raise ModelError(f"family {entry!r}: {error}") from error
    names = [family.name for family in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ArgumentError(f"families: found {twice[0]!r} twice, wanted a name of its own for each")
    if not found:
        raise ArgumentError("families: found none, wanted at least one")
    return tuple(found), refused


def unknown_family(tries: Sequence[str]) -> str:
    """What to say of a name that no family bears; of several ways to read it the one that is closest to a name."""
    names = (DEFAULTS, *FAMILIES)

    def likeness(name: str) -> float:
        return max(difflib.SequenceMatcher(None, name, other).ratio() for other in names)

    found = max(tries, key=likeness)
    close = difflib.get_close_matches(found, names, n=3)
    return f"{found!r} is no family" + (f"; closest: {', '.join(map(repr, close))}" if close else "")


def _checked(entry: object) -> AnyFamily:
    needed: Sequence[str] = ("name", "kind", "prepare")
    needed = (*needed, "features", "fit") if hasattr(entry, "fit") else (*needed, "variants", "closeness")
    missing = [name for name in needed if not hasattr(entry, name)]
    if missing or isinstance(entry, type):
        what = f"the class {entry.__name__}" if isinstance(entry, type) else type(entry).__name__
        without = f" without {', '.join(missing)}" if missing else ", wanted an instance of it"
        raise ArgumentError(f"families: found {what}{without}; give names or objects as GraphFamily describes them")
    return entry  # type: ignore[return-value]  # it has what the protocol asks for
