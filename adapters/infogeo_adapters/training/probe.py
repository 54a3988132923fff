"""The probe batch: a few texts that are shown to a model again and again while it trains."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import IntArray, check_count, check_number, sealed
from infogeo.errors import ArgumentError, ModelError, ShapeError, TextError

if TYPE_CHECKING:
    import torch

Objective = Literal["next token", "masked token", "other", "none"]
OBJECTIVES: tuple[Objective, ...] = ("next token", "masked token", "other", "none")

IGNORED = -100
"""Stands among targets where there is nothing to predict, as in torch and transformers."""

PERMUTED = {"XLNetLMHeadModel", "XLMWithLMHeadModel"}
"""Models that transformers lists among the causal ones, though tokens of theirs see later ones."""

FEWEST_TOKENS = 4
"""Of a text shorter than this nothing can be exchanged and nothing permuted."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ProbeBatch:
    """Token ids of some texts, and what should be predicted at each; made by :func:`probe_batch`."""

    ids: IntArray
    """(B, T) what the model is given; at masked tokens the mask."""
    mask: IntArray
    """(B, T) one for a token, zero for padding."""
    targets: IntArray
    """(B, T) what the prediction *at* each place should say, -100 where it should say nothing. Of a causal model the
    id of the next token, so that nothing is shifted any more."""
    objective: Objective
    hash: str = field(init=False)
    """SHA-256 of all this, hexadecimal."""

    def __post_init__(self) -> None:
        for name in ("ids", "mask", "targets"):
            object.__setattr__(self, name, sealed(np.array(getattr(self, name), dtype=np.int64)))
            found = getattr(self, name).shape
            if len(found) != 2 or 0 in found or found != self.ids.shape:
                raise ShapeError(f"{name}: found shape {found}, wanted (texts, tokens), the same for all three")
        if self.objective not in OBJECTIVES:
            raise ArgumentError(f"objective: found {self.objective!r}, wanted one of {', '.join(OBJECTIVES)}")
        if not np.isin(self.mask, (0, 1)).all():
            raise ArgumentError(f"mask: found the values {np.unique(self.mask)[:5].tolist()}, wanted 0 and 1 only")
        lengths = self.mask.sum(axis=1)
        if int(lengths.min()) < FEWEST_TOKENS:
            raise ShapeError(
                f"text {int(np.argmin(lengths))} of the probe batch has {int(lengths.min())} tokens, wanted at least "
                f"{FEWEST_TOKENS} in each; " + ("look at its attention_mask, which has none"
                                               if int(lengths.min()) == 0 else "give longer texts")
            )
        digest = hashlib.sha256(f"{self.objective} {self.ids.shape}".encode())
        for array in (self.ids, self.mask, self.targets):
            digest.update(np.ascontiguousarray(array).tobytes())
        object.__setattr__(self, "hash", digest.hexdigest())

    @property
    def shape(self) -> tuple[int, int]:
        """Texts and tokens."""
        texts, tokens = self.ids.shape
        return int(texts), int(tokens)

    @property
    def n_targets(self) -> int:
        """Number of places at which something should be predicted."""
        return int((self.targets != IGNORED).sum())


def probe_batch(
    model: Any,
    data: Any = None,
    *,
    tokenizer: Any = None,
    texts: int = 16,
    tokens: int = 48,
    objective: Objective | None = None,
    masked_share: float = 0.15,
    rng: int = 0,
) -> ProbeBatch:
    """Make the probe batch of a model, checked against its vocabulary and context.

    Parameters
    ----------
    model : torch.nn.Module or LanguageModel
        Of what ``load_model(...)`` returns the tokenizer is taken too.
    data : str, sequence of str, mapping or array, optional
        Texts, which need a tokenizer: they are cut into windows of ``tokens`` tokens, and ``texts`` of these are taken,
        spread evenly. Or a batch as a mapping with ``input_ids`` and perhaps ``attention_mask`` and ``labels`` (labels
        of causal models of transformers stand at the token itself, as these models take them, and are moved here). Or
        an array (texts, tokens) of ids. By default the packaged text.
    tokenizer : PreTrainedTokenizerBase, optional
        For texts.
    texts, tokens : int
        Most texts and most tokens in each; of a batch or an array that has more, the first.
    objective : {"next token", "masked token", "other", "none"}, optional
        What the model learns. By default what its class says: causal models the next token, masked models the masked
        tokens. Of a module that is none of transformers the default is ``"other"`` with labels (as they stand, place
        by place) and ``"none"`` without.
    masked_share : float
        Share of the tokens that are masked and to be predicted, where the objective says so and there are no labels.
    rng : int
        Seed of what is masked.

    Returns
    -------
    ProbeBatch

    Raises
    ------
    ArgumentError
        There is no such objective; ids outside the vocabulary; texts without a tokenizer; nothing to mask with.
    ShapeError
        The batch has no such shape, a text is too short, or longer than the context of the model.
    TextError
        There is no text, or it is empty.
    ModelError
        The model has no token embedding, so that the vocabulary is unknown.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> model = load_model()
    >>> probe = probe_batch(model)
    >>> probe.shape, probe.objective, probe.n_targets
    ((16, 48), 'next token', 752)
    """
    if tokenizer is None and _language_model(model) is not None:
        tokenizer = model.tokenizer
    check_count("texts", texts, 1)
    check_count("tokens", tokens, FEWEST_TOKENS)
    share = check_number("masked_share", masked_share)
    if not 0 < share < 1:
        raise ArgumentError(f"masked_share: found {share}, wanted a number between 0 and 1")
    if objective is not None and objective not in OBJECTIVES:
        raise ArgumentError(f"objective: found {objective!r}, wanted one of {', '.join(OBJECTIVES)}")
    labels: IntArray | None
    if isinstance(data, ProbeBatch):
        ids, mask, labels = data.ids, data.mask, data.targets
        goal: Objective = objective or data.objective
        aligned = True
    else:
        ids, mask, labels, special = _read(data, tokenizer, texts, tokens)
        goal = objective or _objective_of(model, labels is not None)
        aligned = False
    _check_ids(model, ids)
    _check_context(model, ids)
    if labels is not None:
        targets = labels if aligned or goal != "next token" else _moved(labels)
        if goal == "none":
            targets = np.full_like(ids, IGNORED)
    elif goal == "next token":
        targets = _moved(np.where(mask == 1, ids, IGNORED))
    elif goal == "masked token":
        ids, targets = _masked(ids, mask, special, _mask_id(tokenizer), share, rng)
    elif goal == "other":
        raise ArgumentError("objective: found 'other' but no labels, which say what to predict; give a batch with some")
    else:
        targets = np.full_like(ids, IGNORED)
    if not aligned:  # the last padding on the left would predict the first token
        targets = np.where(mask == 1, targets, IGNORED)
    return ProbeBatch(ids=ids, mask=mask, targets=targets, objective=goal)


def bare(model: Any) -> torch.nn.Module:
    """The network itself, out of what load_model, data parallelism and the compiler wrap around it."""
    import torch

    model = _language_model(model) or model
    while isinstance(model, torch.nn.Module):
        inner = getattr(model, "_orig_mod", None)
        if inner is None and isinstance(model, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
            inner = model.module
        if not isinstance(inner, torch.nn.Module):
            return model
        model = inner
    raise ArgumentError(f"model: found {type(model).__name__}, wanted a torch module or what load_model(...) returns")


def _language_model(model: object) -> torch.nn.Module | None:
    """The network in what load_model returns; None of anything else."""
    import sys

    loading = sys.modules.get("infogeo_adapters.transformers.loading")
    if loading is None or not isinstance(model, loading.LanguageModel):
        return None
    net: torch.nn.Module = model.model
    return net


def is_transformers(model: object) -> bool:
    """Whether it is a model of transformers."""
    import sys

    library = sys.modules.get("transformers")
    return library is not None and isinstance(model, library.PreTrainedModel)


def class_objective(model: torch.nn.Module) -> Objective | None:
    """What a model of transformers predicts by its class; None where the class does not say."""
    if not is_transformers(model):
        return None
    from transformers.models.auto import modeling_auto as known

    names = {base.__name__ for base in type(model).__mro__}
    config: Any = model.config
    if config.is_encoder_decoder:
        return "none"
    if names & set(known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()) and not names & PERMUTED:
        return "next token"
    if names & set(known.MODEL_FOR_MASKED_LM_MAPPING_NAMES.values()):
        return "masked token"
    return None


def _objective_of(model: torch.nn.Module, labels: bool) -> Objective:
    net = bare(model)
    known = class_objective(net)
    return known or ("other" if labels else "none")


Read = tuple[NDArray[np.int64], NDArray[np.int64], "NDArray[np.int64] | None", "NDArray[np.bool_] | None"]
"""Ids, mask, labels if there are any, and which tokens are special if that is known."""


def _read(data: Any, tokenizer: Any, texts: int, tokens: int) -> Read:
    if data is None and tokenizer is None:
        raise ArgumentError(
            "probe: found None and no tokenizer; give tokenizer= (then the packaged text is taken), or as the probe "
            "token ids of your own, such as a batch of your evaluation data"
        )
    if data is None:
        from infogeo_adapters.models import background_text

        data = background_text()
    if isinstance(data, str) or (isinstance(data, Sequence) and len(data) and all(isinstance(d, str) for d in data)):
        return _of_texts([data] if isinstance(data, str) else list(data), tokenizer, texts, tokens)
    if isinstance(data, Mapping) or hasattr(data, "input_ids"):
        return _of_batch(data, texts, tokens)
    ids = _array("data", data)[:texts, :tokens]
    return ids, np.ones_like(ids), None, None


def _array(name: str, value: Any) -> NDArray[np.int64]:
    """Whole numbers (B, T)."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ShapeError(f"{name}: the texts have different lengths; pad them, and give an attention_mask") from error
    if array.dtype.kind not in "iub":
        raise ArgumentError(
            f"{name}: found {type(value).__name__} of dtype {array.dtype}, wanted texts, whole numbers (texts, "
            "tokens), or a batch with input_ids"
        )
    if array.ndim != 2 or 0 in array.shape:
        raise ShapeError(f"{name}: found shape {array.shape}, wanted (texts, tokens), none of them zero")
    return array.astype(np.int64)


def _of_batch(data: Any, texts: int, tokens: int) -> Read:
    given = data if isinstance(data, Mapping) else dict(data)
    if "input_ids" not in given:
        raise ArgumentError(f"data: found a batch with {', '.join(map(str, given)) or 'nothing'}, wanted input_ids")
    ids = _array("input_ids", given["input_ids"])
    mask = given.get("attention_mask")
    labels = given.get("labels")
    found = [ids, np.ones_like(ids) if mask is None else _array("attention_mask", mask)]
    if labels is not None:
        if np.ndim(labels) == 1:
            raise ShapeError(
                f"labels: found shape {tuple(np.shape(labels))}, one for each text, wanted one for each token; leave "
                "labels that are not of tokens out of the probe batch"
            )
        found.append(_array("labels", labels))
    for name, array in zip(("attention_mask", "labels"), found[1:], strict=False):
        if array.shape != ids.shape:
            raise ShapeError(
                f"{name}: found shape {array.shape}, wanted that of input_ids, {ids.shape}; leave out "
                "labels that are not of tokens"
            )
    cut = [array[:texts, :tokens] for array in found]
    return cut[0], cut[1], cut[2] if labels is not None else None, None


def _of_texts(given: Sequence[str], tokenizer: Any, texts: int, tokens: int) -> Read:
    if tokenizer is None:
        raise ArgumentError("tokenizer: found None, but texts need one; give tokenizer=, or token ids instead of texts")
    if not all(text.strip() for text in given):
        raise TextError(f"text {[bool(text.strip()) for text in given].index(False)} of the probe batch is empty")
    windows: list[list[int]] = []
    from infogeo_adapters.transformers.stack import quiet

    with quiet():
        found = tokenizer(
            list(given), truncation=True, max_length=tokens, return_overflowing_tokens=True,
            return_attention_mask=False, return_token_type_ids=False,
        )["input_ids"]
    windows = [list(row) for row in found]
    longest = max(map(len, windows))
    long = [row for row in windows if len(row) >= max(FEWEST_TOKENS, min(tokens, longest) // 2)]
    if not long:
        raise TextError(f"the longest text has {longest} tokens, wanted at least {FEWEST_TOKENS}; give longer texts")
    full = [row for row in long if len(row) == longest]
    long = full if len(full) >= texts else long
    chosen = [long[i] for i in np.unique(np.linspace(0, len(long) - 1, min(texts, len(long))).round().astype(int))]
    width = max(map(len, chosen))
    fill = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    ids = np.full((len(chosen), width), fill, dtype=np.int64)
    mask = np.zeros_like(ids)
    for b, row in enumerate(chosen):
        ids[b, : len(row)], mask[b, : len(row)] = row, 1
    special = np.isin(ids, list(tokenizer.all_special_ids))
    return ids, mask, None, special


def _moved(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels at the token before."""
    targets = np.full_like(labels, IGNORED)
    targets[:, :-1] = labels[:, 1:]
    return targets


def _mask_id(tokenizer: Any) -> int:
    found = getattr(tokenizer, "mask_token_id", None)
    if found is None:
        raise ArgumentError(
            "tokenizer: found none with a mask token, but the model predicts masked tokens; give tokenizer=, or a "
            "batch with labels in which tokens are masked already"
        )
    return int(found)


def _masked(
    ids: NDArray[np.int64], mask: NDArray[np.int64], special: NDArray[np.bool_] | None, fill: int, share: float,
    rng: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids with some tokens masked, and what these were."""
    free = (mask == 1) if special is None else (mask == 1) & ~special
    if not free.any():
        raise TextError("the probe batch has no token that could be masked, only special ones; give other texts")
    places = np.flatnonzero(free)
    count = max(1, round(share * len(places)))
    chosen = np.random.default_rng(rng).permutation(places)[:count]
    hidden = np.zeros(ids.shape, dtype=bool)
    hidden.reshape(-1)[chosen] = True
    return np.where(hidden, fill, ids), np.where(hidden, ids, IGNORED)


def vocabulary_of(model: torch.nn.Module) -> int | None:
    """Number of token embeddings; None of a module that has no embedding to tell by."""
    import torch

    net = bare(model)
    if is_transformers(net):
        from infogeo_adapters.transformers.stack import embedding_rows

        return embedding_rows(net)  # type: ignore[arg-type]  # it is a PreTrainedModel
    tables = [m for m in net.modules() if isinstance(m, torch.nn.Embedding)]
    return max((table.num_embeddings for table in tables), default=None)


def _check_ids(model: torch.nn.Module, ids: IntArray) -> None:
    rows = vocabulary_of(model)
    if rows is None:
        raise ModelError(f"{type(model).__name__} has no token embedding; infogeo measures models of tokens")
    if int(ids.min()) < 0 or int(ids.max()) >= rows:
        wrong = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
        raise ArgumentError(
            f"the probe batch has the token id {wrong}, but {type(model).__name__} has {rows} embeddings, numbered "
            "from 0; give ids of its own tokenizer"
        )


def _check_context(model: torch.nn.Module, ids: IntArray) -> None:
    net = bare(model)
    if not is_transformers(net):
        return
    from infogeo_adapters.transformers.tokenizing import stated_positions

    config: Any = net.config
    limit = stated_positions(config if config.is_encoder_decoder else config.get_text_config())
    if limit is not None and ids.shape[1] > limit:
        raise ShapeError(
            f"the probe batch has {ids.shape[1]} tokens in each text, but the context of {type(net).__name__} holds "
            f"{limit}; give tokens={limit} or fewer"
        )
