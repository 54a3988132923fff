"""One door for all models: the bundled one, a folder, a name on the hub, an object that is loaded already."""

from __future__ import annotations

import contextlib
import hashlib
import html
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from infogeo.errors import ArgumentError, ModelError
from infogeo.results import Source
from infogeo_adapters._require import require
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.model_files import find_folder, first_line, hash_files, read_json, weight_files
from infogeo_adapters.transformers.stack import find_stack, quiet
from infogeo_adapters.transformers.tokenizing import check_tokenizer, context_length, load_tokenizer
from infogeo_adapters.transformers.weights import (
    check_finite,
    check_fit,
    check_format,
    check_sparse,
    loading_error,
    plain_tensors,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Kind = Literal["encoder", "decoder", "encoder-decoder"]
Options = dict[str, str | int | float | bool | None]
Fingerprint = tuple[tuple[object, ...], ...]
"""Of each tensor of a model where it is and how often it was changed."""

DTYPES = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True, eq=False, repr=False)
class LanguageModel:
    """A transformer with its tokenizer, checked and ready to be captured.

    Made by :func:`load_model`. The model is a plain ``transformers`` object and may be used as such.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    """What the model was asked for as: ``bundled``, a folder, a name on the hub."""
    kind: Kind
    """Measured, not looked up: a decoder is a model in which no token sees a later one."""
    source: Source
    """Where the model comes from and what its weights were when it was loaded; see :meth:`current_source`."""
    _hashed: dict[Fingerprint, str | None]
    """The state of the weights at the last hashing, and the hash."""

    def current_source(self) -> Source:
        """The source with the hash and the number format of the weights as they are now.

        It is ``source`` until tensors are replaced or changed in place, as by an optimizer's step or
        ``load_state_dict``. Then the tensors in memory are hashed again, once for each change, as for a model given
        as an object. What escapes is a change that torch itself does not count, made through ``tensor.data`` or a
        NumPy view of a tensor.

        Returns
        -------
        Source

        Examples
        --------
        >>> model = load_model()
        >>> model.current_source() is model.source
        True
        """
        with lock_of(self.model):
            state = _fingerprint(self.model)
            if state not in self._hashed:
                content_hash = _hash_state(self.model)
                self._hashed.clear()
                self._hashed[state] = content_hash
            now = self._hashed[state]
        if now == self.source.content_hash:
            return self.source
        return replace(self.source, content_hash=now, dtype=_name_of(self.model.dtype))

    def _facts(self) -> tuple[tuple[str, str], ...]:
        """What one wants to know at a glance, by name."""
        config = self.model.config if self.model.config.is_encoder_decoder else self.model.config.get_text_config()
        heads = getattr(config, "num_attention_heads", None)
        context = self.context_length
        return (
            ("name", self.name), ("architecture", self.source.architecture or type(self.model).__name__),
            ("kind", self.kind), ("blocks", self._depth()), ("heads", str(heads) if heads else "none"),
            ("context", "without limit" if context is None else f"{context} tokens"),
        )

    def _depth(self) -> str:
        try:
            below = self.n_decoder_layers
        except ModelError:
            return f"{self.n_layers} in the encoder, a decoder that cannot be read"
        return str(self.n_layers) if below is None else f"{self.n_layers} in the encoder and {below} in the decoder"

    def __repr__(self) -> str:
        (_, name), *facts = self._facts()
        return f"LanguageModel({name!r}, {', '.join(f'{key}: {value}' for key, value in facts)})"

    def _repr_html_(self) -> str:
        rows = (f"<tr><th>{key}</th><td>{html.escape(value)}</td></tr>" for key, value in self._facts())
        return f"<table><caption>LanguageModel</caption>{''.join(rows)}</table>"

    @property
    def n_layers(self) -> int:
        """Number of blocks; of the encoder, if there are two stacks."""
        return find_stack(self.model).depth

    @property
    def n_decoder_layers(self) -> int | None:
        """Number of blocks of the decoder of an encoder-decoder model; None if there is one stack only."""
        return find_stack(self.model, "decoder").depth if self.kind == "encoder-decoder" else None

    @property
    def context_length(self) -> int | None:
        """Most tokens of one text, special tokens counted; None if neither the model nor the tokenizer has a limit."""
        return context_length(self.model, self.tokenizer)

    @property
    def has_head(self) -> bool:
        """True if the model predicts tokens, so that its layers can be read out."""
        head: object = self.model.get_output_embeddings()  # type: ignore[no-untyped-call]  # untyped in transformers
        return head is not None


def load_model(
    model: str | Path | PreTrainedModel | None = None,
    *,
    tokenizer: str | Path | PreTrainedTokenizerBase | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    allow_pickle: bool = False,
    revision: str | None = None,
) -> LanguageModel:
    """Load a language model and its tokenizer, or take an object that is loaded already.

    Code that comes with a model is never run (``trust_remote_code`` is off, for the tokenizer too). A folder is
    read without any network access. After loading, three forward passes of a few tokens find the stack of blocks,
    and whether tokens see later ones; a model whose layers cannot be told apart is refused here and not later.

    Parameters
    ----------
    model : str, Path, PreTrainedModel or None
        None or ``"bundled"``
            the small language model that ships with infogeo (``"bundled@0"``: as it was before its training; see
            :func:`infogeo_adapters.models.bundled_steps`);
        ``"minilm"``
            the sentence encoder all-MiniLM-L6-v2 of the extra ``minilm``;
        a folder
            as ``save_pretrained`` writes it. What exists on disk, and what begins with ``.``, ``/`` or ``~``, is a
            folder (write ``./minilm`` for a folder of that name);
        another name
            a model on the Hugging Face hub, fetched once and cached;
        a ``PreTrainedModel``
            used as it is, with ``tokenizer=``. It is not moved, converted or put into evaluation mode; while it is
            captured it is, and afterwards it is as before.
    tokenizer : str, Path or PreTrainedTokenizerBase, optional
        Another tokenizer than the one beside the model; needed for a loaded object.
    dtype : str or torch.dtype, optional
        Number format to compute in: float32 (default), float64, bfloat16 or float16.
    device : str or torch.device, optional
        Where to compute, by default the CPU.
    allow_pickle : bool
        Also read ``pytorch_model.bin``, if there are no safetensors. Only for files you trust.
    revision : str, optional
        Branch, tag or commit on the hub.

    Returns
    -------
    LanguageModel
        In evaluation mode unless given as an object; ``source`` holds the SHA-256 of the weights (for a single
        safetensors file the one that ``sha256sum`` prints).

    Raises
    ------
    ModelError
        The folder is missing or damaged, the hub cannot be reached or its cache not written, the weights are pickled,
        incomplete, or hold NaN or infinity, a relative of T5 is to compute in float16, BigBird's attention is block
        sparse, the model needs its own code, the tokenizer gives no character offsets or has more tokens than the
        model.
    MissingDependencyError
        torch, transformers, the package with MiniLM or the one that quantized the weights is not installed.
    ArgumentError
        An argument has no meaning for what is loaded.

    Examples
    --------
    >>> model = load_model()
    >>> model.kind, model.n_layers, model.context_length, model.has_head
    ('decoder', 6, 512, True)
    """
    require("torch", extra="transformers", caller="load_model")
    require("transformers", extra="transformers", caller="load_model")
    loaded, checked, source = open_model(
        model, tokenizer=tokenizer, dtype=dtype, device=device, allow_pickle=allow_pickle, revision=revision
    )
    stack = find_stack(loaded)
    kind: Kind = "encoder-decoder" if stack.encoder_decoder else "decoder" if stack.causal else "encoder"
    return LanguageModel(
        model=loaded, tokenizer=checked, name=str(source.model), kind=kind, source=source,
        _hashed={_fingerprint(loaded): source.content_hash},
    )


def open_model(
    model: str | Path | PreTrainedModel | None = None,
    *,
    tokenizer: str | Path | PreTrainedTokenizerBase | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
    allow_pickle: bool = False,
    revision: str | None = None,
    finite: bool = True,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, Source]:
    """The model, its tokenizer and its source as in :func:`load_model`, before the stack of blocks is looked for.

    With ``finite=False`` weights with NaN or infinity are not refused: a diagnosis is to say where they are.
    """
    if isinstance(model, LanguageModel):
        raise ArgumentError("model: this one is loaded already; use it as it is")
    if model is None or isinstance(model, str | Path):
        name = "bundled" if model is None else str(model)
        folder, commit = find_folder(model, allow_pickle=allow_pickle, revision=revision)
        loaded, hashed, unused = _from_folder(folder, dtype=_dtype(dtype), allow_pickle=allow_pickle)
        _move(loaded, device if device is not None else "cpu")
        options: Options = {}
        if commit:
            options["revision"] = commit
        if unused:
            options["unused_weights"] = unused
        if tokenizer is None:
            tokenizer = folder
    else:
        _check_object(model, tokenizer, dtype=dtype, device=device, revision=revision)
        loaded, name = model, model.config.name_or_path or type(model).__name__
        check_format(loaded.config, loaded.dtype, name)
        hashed, options = _hash_state(model), {}
    check_sparse(loaded, name)
    if finite:
        check_finite(loaded, name)
    method = getattr(loaded, "quantization_method", None)
    if method is not None:
        options["quantization"] = str(getattr(method, "value", method))
    tokenizer_folder = None
    if isinstance(tokenizer, str | Path):
        tokenizer_folder = find_folder(tokenizer, allow_pickle=False, revision=None, weights=False)[0]
        tokenizer = load_tokenizer(tokenizer_folder)
    checked = check_tokenizer(tokenizer, loaded, tokenizer_folder)
    source = Source(
        model=name, content_hash=hashed, architecture=type(loaded).__name__,
        dtype=_name_of(loaded.dtype), options=options,
    )
    return loaded, checked, source


def _from_folder(folder: Path, *, dtype: torch.dtype, allow_pickle: bool) -> tuple[PreTrainedModel, str, int]:
    """The model, the hash of its files, and how many of their weights it does not use."""
    settings = read_json(folder / "config.json", folder)
    if (folder / "adapter_config.json").exists():
        raise ModelError(f"{folder} holds a PEFT adapter; merge it into its base (merge_and_unload) and save that")
    weights, pickled = weight_files(folder, allow_pickle=allow_pickle)
    config = _config(folder, settings)
    check_format(config, dtype, str(folder))
    auto = _auto_class(config, settings)
    try:
        with quiet(), warnings.catch_warnings() if pickled else contextlib.nullcontext():
            if pickled:
                warnings.filterwarnings("ignore", message="Detected pickle protocol")
            model, info = auto.from_pretrained(
                folder, config=config, dtype=dtype, local_files_only=True, trust_remote_code=False,
                use_safetensors=not pickled, output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are refused by name below
            )
    except MemoryError:
        raise
    except Exception as error:
        pickles = weights if pickled else []
        raise loading_error(folder, error, auto=auto, config=config, pickled=pickles) from error
    unused = check_fit(folder, model, info)
    if model.dtype.itemsize > 4:
        model.set_experts_implementation("eager")  # torch's grouped product of experts has no float64
    return model.eval(), hash_files(weights), unused


def _config(folder: Path, settings: Mapping[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    kind = settings.get("model_type")
    if kind not in CONFIG_MAPPING:
        if "auto_map" in settings:
            raise ModelError(
                f"{folder} needs code that comes with the model (auto_map in config.json), and infogeo never runs it; "
                "if you trust it, load the model yourself and pass the object: load_model(model, tokenizer=tokenizer)"
            )
        raise ModelError(f"{folder}: config.json names the model type {kind!r}, which transformers does not know")
    try:
        with quiet():
            return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ModelError(f"{folder}: config.json cannot be used ({first_line(error)}); correct it") from error


def _auto_class(config: Any, settings: Mapping[str, Any]) -> Any:
    """The automatic class with the head the weights were saved with, AutoModel if that is not a language model's."""
    import transformers
    from transformers.models.auto import modeling_auto

    heads = (
        ("AutoModelForCausalLM", modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
        ("AutoModelForMaskedLM", modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
        ("AutoModelForSeq2SeqLM", modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
    )
    wanted = settings.get("architectures") or ()
    order = heads[::-1] if config.is_encoder_decoder else heads
    for auto, names in order:
        if names.get(config.model_type) in wanted:
            return getattr(transformers, auto)
    return transformers.AutoModel


# Checks


def _check_object(model: Any, tokenizer: Any, *, dtype: Any, device: Any, revision: str | None) -> None:
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel):
        raise ModelError(
            f"model: found {type(model).__module__}.{type(model).__name__}, wanted a name, a folder or a transformers "
            "PreTrainedModel (a PEFT model turns into one with merge_and_unload())"
        )
    if tokenizer is None:
        raise ArgumentError("tokenizer: a model given as an object needs its tokenizer, pass tokenizer=")
    if dtype is not None and _dtype(dtype) != model.dtype:
        raise ArgumentError(f"dtype: the given model computes in {model.dtype}; convert it first with model.to(dtype)")
    if device is not None and str(device) != str(model.device):
        raise ArgumentError(f"device: the given model is on {model.device}; move it first with model.to(device)")
    if revision is not None:
        raise ArgumentError("revision: only models on the hub have revisions, an object was given")


def _move(model: PreTrainedModel, device: str | torch.device) -> None:
    import torch

    try:
        torch.nn.Module.to(model, device=torch.device(device))
    except (RuntimeError, AssertionError) as error:
        raise ArgumentError(f"device {str(device)!r} cannot be used ({first_line(error)}); choose 'cpu'") from error


def _dtype(value: str | torch.dtype | None) -> torch.dtype:
    import torch

    if value is None:
        return torch.float32
    name = _name_of(value)
    if name not in DTYPES:
        raise ArgumentError(f"dtype {value!r} cannot be used; choose {', '.join(DTYPES)}")
    found: torch.dtype = getattr(torch, name)
    return found


def _name_of(dtype: str | torch.dtype) -> str:
    """float32 for torch.float32."""
    return str(dtype).removeprefix("torch.")


# What a model's weights are


def _fingerprint(model: PreTrainedModel) -> Fingerprint:
    """Name, place, format and number of changes of each tensor; read without touching the numbers."""
    return tuple(
        # tensors made in inference mode keep no count
        (name, t.data_ptr(), tuple(t.shape), t.dtype, -1 if t.is_inference() else t._version)
        for name, t in plain_tensors(model.state_dict(keep_vars=True))
    )


def _hash_state(model: PreTrainedModel) -> str:
    """SHA-256 of names, formats, shapes and numbers of a loaded model, sorted by name."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(plain_tensors(model.state_dict())):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

