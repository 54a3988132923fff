"""The tokenizer of a model: read from its folder, checked, and the longest text that both take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from infogeo.errors import ModelError
from infogeo_adapters.models import FOLDER, bundled_path
from infogeo_adapters.transformers.model_files import first_line
from infogeo_adapters.transformers.stack import embedding_rows, quiet

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "*.spm", "tokenizer.*.json")
UNLIMITED = 10**9
"""A tokenizer that knows no limit says a length beyond this."""
POSITIONS = ("max_position_embeddings", "max_seq_len")
"""Where configurations say how many positions there are; the second is MPT's."""


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer in a folder; for an early checkpoint of the bundled model the bundled one.

    Raises
    ------
    ModelError
        There is none, or it cannot be loaded.
    """
    from transformers import AutoTokenizer

    if folder.resolve().parent == (FOLDER / "checkpoints").resolve():
        folder = bundled_path()  # the early checkpoints are of one run with it and ship without another copy
    if not any(next(folder.glob(pattern), None) for pattern in VOCABULARIES):
        raise ModelError(f"{folder} has no tokenizer (no tokenizer.json or vocabulary); give one with tokenizer=")
    try:
        with quiet():
            loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:
        raise ModelError(
            f"the tokenizer in {folder} cannot be loaded ({first_line(error)}); copy or download it again"
        ) from error
    return loaded


def check_tokenizer(tokenizer: Any, model: PreTrainedModel, folder: Path | None) -> PreTrainedTokenizerBase:
    """The tokenizer, if it says which characters a token stands for and the model knows all its tokens.

    Raises
    ------
    ModelError
        It does not.
    """
    from transformers import PreTrainedTokenizerBase

    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(f"tokenizer: found {type(tokenizer).__name__}, wanted a transformers tokenizer or its folder")
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} does not say which characters a token stands for, so words cannot be aligned; "
            "use the fast version of the tokenizer (one with a tokenizer.json)"
        )
    largest = max(tokenizer.get_vocab().values(), default=-1)
    rows = embedding_rows(model)
    if largest < 0:
        raise ModelError("the tokenizer has an empty vocabulary; its files are missing or damaged")
    if largest >= rows:
        extra = min((i, token) for token, i in tokenizer.get_vocab().items() if i >= rows)[1]
        if folder is None:
            remedy = "they do not belong together (or resize the embeddings of the model and train the new rows)"
        elif not (folder / "tokenizer_config.json").exists():
            remedy = (
                f"{folder} has no tokenizer_config.json, and without it transformers adds special tokens of its own: "
                "copy or download that file too"
            )
        else:
            remedy = f"they do not belong together (the tokenizer is the one in {folder})"
        raise ModelError(
            f"the tokenizer has ids up to {largest}, but the model has only {rows} embeddings ({extra!r} is the first "
            f"token without one); {remedy}"
        )
    return tokenizer


def stated_positions(config: Any) -> int | None:
    """How many positions a model has by its configuration; None if it does not say."""
    said = [getattr(config, name, None) for name in POSITIONS]
    return min([n for n in said if isinstance(n, int) and n > 0], default=None)


def context_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Most tokens of one text, special tokens counted; None if neither the model nor the tokenizer has a limit."""
    import torch

    limits = []
    config = model.config if model.config.is_encoder_decoder else model.config.get_text_config()
    positions = stated_positions(config)
    if positions is not None:
        # RoBERTa and its kin number positions from padding_idx + 1, so the table is longer than a text may be
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Embedding) and "position" in name and module.padding_idx is not None:
                positions = min(positions, module.num_embeddings - module.padding_idx - 1)
        limits.append(positions)
    if 0 < tokenizer.model_max_length < UNLIMITED:
        limits.append(int(tokenizer.model_max_length))
    return min(limits, default=None)
