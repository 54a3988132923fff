"""Small transformers of three architectures, not trained, and the names of their parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from faults.corpus import VOCABULARY

if TYPE_CHECKING:
    import torch

ARCHITECTURES = ("gpt2", "llama", "bert")
CONTEXT = 64


@dataclass(frozen=True)
class Size:
    """How large a model is."""

    width: int = 64
    depth: int = 4
    heads: int = 4
    activation: str = "relu"
    dropout: float = 0.0


@dataclass(frozen=True)
class Parts:
    """Where the parts of an architecture are; dotted names from the model or from a block."""

    blocks: str
    positions: str
    attention: str
    norms: tuple[str, str]
    """Of attention and of the feed-forward part, in a block."""
    heads_out: str
    """The linear map that joins the heads."""
    hidden: str
    """The linear map whose bias decides which units are on."""
    feed_out: str


PARTS = {
    "gpt2": Parts(
        "transformer.h", "transformer.wpe", "attn", ("ln_1", "ln_2"), "attn.c_proj", "mlp.c_fc", "mlp.c_proj",
    ),
    "llama": Parts(
        "model.layers", "model.rotary_emb", "self_attn", ("input_layernorm", "post_attention_layernorm"),
        "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj",
    ),
    "bert": Parts(
        "bert.encoder.layer", "bert.embeddings.position_embeddings", "attention.self",
        ("attention.output.LayerNorm", "output.LayerNorm"), "attention.output.dense", "intermediate.dense",
        "output.dense",
    ),
}


def build(architecture: str, seed: int, size: Size = Size()) -> torch.nn.Module:
    """An untrained model: Gaussian weights of deviation 0.02 as transformers draws them."""
    import torch
    from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    common: dict[str, Any] = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    common["vocab_size"] = VOCABULARY
    if architecture == "gpt2":
        model: torch.nn.Module = GPT2LMHeadModel(GPT2Config(
            **common, n_embd=size.width, n_layer=size.depth, n_head=size.heads, n_positions=CONTEXT,
            activation_function=size.activation, resid_pdrop=size.dropout, embd_pdrop=size.dropout,
            attn_pdrop=size.dropout, use_cache=False,
        ))
    elif architecture == "llama":
        model = LlamaForCausalLM(LlamaConfig(
            **common, hidden_size=size.width, num_hidden_layers=size.depth, num_attention_heads=size.heads,
            intermediate_size=2 * size.width, max_position_embeddings=CONTEXT, hidden_act=size.activation,
            mlp_bias=True, attention_dropout=size.dropout, use_cache=False,
        ))
    elif architecture == "bert":
        common["pad_token_id"] = 0
        model = BertForMaskedLM(BertConfig(
            **common, hidden_size=size.width, num_hidden_layers=size.depth, num_attention_heads=size.heads,
            intermediate_size=4 * size.width, max_position_embeddings=CONTEXT, hidden_act=size.activation,
            hidden_dropout_prob=size.dropout, attention_probs_dropout_prob=size.dropout,
        ))
    else:
        raise ValueError(f"architecture: found {architecture!r}, wanted one of {', '.join(ARCHITECTURES)}")
    model.loss_type = "ForMaskedLM" if architecture == "bert" else "ForCausalLM"
    return model.train()


def part(module: torch.nn.Module, name: str) -> Any:
    """The part of a dotted name."""
    return module.get_submodule(name)


def replace_part(module: torch.nn.Module, name: str, new: torch.nn.Module) -> None:
    """Put another module in the place of a dotted name."""
    *path, last = name.split(".")
    setattr(module.get_submodule(".".join(path)), last, new)


def blocks_of(model: torch.nn.Module, architecture: str) -> list[Any]:
    """The blocks, in the order of computation."""
    return list(part(model, PARTS[architecture].blocks))
