"""Tiny random models of some fifty architectures, each norm and bias perturbed so that leaving one out shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TEXT = "the cat sat on the mat and the dog ran home because it was cold outside today"
VOCABULARY = 67
UNUSED = 20

BASE = {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
GROUPED = {**BASE, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4}
GPT2 = {"n_layer": 3, "n_head": 2, "n_embd": 16}
OPT = {"num_hidden_layers": 3, "num_attention_heads": 2, "hidden_size": 16, "ffn_dim": 32}
BART = {
    "encoder_layers": 2, "decoder_layers": 3, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "d_model": 16,
    "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 64,
}
T5 = {
    "num_layers": 2, "num_decoder_layers": 3, "num_heads": 2, "d_model": 16, "d_kv": 8, "d_ff": 32,
    "decoder_start_token_id": 0,
}


@dataclass(frozen=True)
class Specimen:
    """One architecture: classes, settings, and what it does not have."""

    model: str
    config: str
    settings: dict[str, Any]
    predicts: str = "next"
    head: bool = True
    attention: bool = True
    """Whether it gives attention probabilities."""
    refused: str = ""
    """What the error says when the model cannot be read at all."""
    same_depth: bool = field(default=True)
    positions: int | None = 0
    """Number that the model gives the first position, so that a text with padding on its left can be numbered; None
    where it takes no position numbers."""
    left: str = ""
    """Why padding on the left changes its predictions; empty where it does not."""
    double: str = ""
    """Why it has no prediction in float64; empty where it has."""


def _causal(name: str, settings: dict[str, Any], **more: Any) -> Specimen:
    return Specimen(f"{name}ForCausalLM", f"{name}Config", settings, **more)


def _masked(name: str, settings: dict[str, Any], **more: Any) -> Specimen:
    return Specimen(f"{name}ForMaskedLM", f"{name}Config", settings, predicts="itself", **more)


def _two_stacks(name: str, settings: dict[str, Any], **more: Any) -> Specimen:
    return Specimen(f"{name}ForConditionalGeneration", f"{name}Config", settings, positions=None, **more)


COLUMNS = "its stacks number positions by column, padding included, and take no numbers of the caller's"
NARROWED = "it turns its logits into float32"
MOE = {"num_local_experts": 4, "num_experts_per_tok": 2}
ZOO: dict[str, Specimen] = {
    "gpt2": Specimen("GPT2LMHeadModel", "GPT2Config", GPT2),
    "gpt-neo": _causal("GPTNeo", {
        "num_layers": 4, "num_heads": 2, "hidden_size": 16, "attention_types": [[["global", "local"], 2]],
        "window_size": 4,
    }),
    "neox": _causal("GPTNeoX", {**BASE, "rotary_pct": 0.5}),
    "neox, sequential": _causal("GPTNeoX", {**BASE, "use_parallel_residual": False}),
    "gpt-j": _causal("GPTJ", {**GPT2, "rotary_dim": 4}),
    "codegen": _causal("CodeGen", {**GPT2, "n_head": 4, "rotary_dim": 4}),
    "gptbigcode": _causal("GPTBigCode", GPT2),
    "opt": _causal("OPT", OPT),
    "opt, projected": _causal("OPT", {**OPT, "word_embed_proj_dim": 8, "do_layer_norm_before": False}),
    "bloom": _causal("Bloom", GPT2 | {"hidden_size": 16}, positions=None),
    "llama": _causal("Llama", BASE),
    "mistral": _causal("Mistral", {**GROUPED, "sliding_window": 3}),
    "mixtral": _causal("Mixtral", {**GROUPED, **MOE}),
    "qwen2": _causal("Qwen2", {**BASE, "num_key_value_heads": 1}),
    "qwen3": _causal("Qwen3", GROUPED),
    "gemma": _causal("Gemma", GROUPED),
    "gemma2": _causal("Gemma2", {**GROUPED, "sliding_window": 3}),
    "gemma3": Specimen("Gemma3ForCausalLM", "Gemma3TextConfig", {
        **GROUPED, "sliding_window": 3, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    }),
    "phi": _causal("Phi", BASE),
    "phi3": _causal("Phi3", {**BASE, "num_key_value_heads": 2}),
    "olmo2": _causal("Olmo2", {**BASE, "num_key_value_heads": 2}),
    "cohere": _causal("Cohere", {**BASE, "num_key_value_heads": 2}),
    "granite": _causal("Granite", {
        **BASE, "num_key_value_heads": 2, "logits_scaling": 4.0, "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5, "attention_multiplier": 0.4,
    }),
    "falcon": _causal("Falcon", {**BASE, "multi_query": True, "parallel_attn": True}),
    "mpt": _causal("Mpt", {"n_layers": 3, "n_heads": 2, "d_model": 16}, positions=None),
    "stablelm": _causal("StableLm", {**BASE, "num_key_value_heads": 2}),
    "biogpt": _causal("BioGpt", BASE),
    "xglm": _causal(
        "XGLM", {"num_layers": 3, "attention_heads": 2, "d_model": 16, "ffn_dim": 32},
        double="does not run: its mask holds the lowest float64, its attention is computed in float32",
    ),
    "mamba": _causal(
        "Mamba", {"num_hidden_layers": 3, "hidden_size": 16}, attention=False, positions=None, double=NARROWED,
    ),
    "nemotron": _causal("Nemotron", {**BASE, "num_key_value_heads": 2}),
    "deepseek-v3": _causal("DeepseekV3", {
        **BASE, "num_key_value_heads": 2, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4, "v_head_dim": 8, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2,
        "topk_group": 1, "first_k_dense_replace": 1, "moe_intermediate_size": 8,
    }),
    "gpt-oss": _causal("GptOss", {
        **GROUPED, **MOE, "sliding_window": 3,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    }),
    "lfm2": _causal("Lfm2", {
        **GROUPED, "num_hidden_layers": 4, "layer_types": ["conv", "full_attention", "conv", "full_attention"],
    }),
    "gemma3n": Specimen("Gemma3nForCausalLM", "Gemma3nTextConfig", {
        **GROUPED, "num_hidden_layers": 4, "vocab_size_per_layer_input": VOCABULARY, "laurel_rank": 4,
        "hidden_size_per_layer_input": 8, "intermediate_size": [32] * 4, "num_kv_shared_layers": 0,
        "activation_sparsity_pattern": [0.0] * 4,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    }, refused="residual stream"),
    "bert": _masked("Bert", BASE),
    "roberta": _masked("Roberta", BASE, positions=1),
    "electra": _masked("Electra", {**BASE, "embedding_size": 8}),
    "distilbert": _masked("DistilBert", {"n_layers": 3, "n_heads": 2, "dim": 16, "hidden_dim": 32}),
    "albert": _masked("Albert", {**BASE, "embedding_size": 8}),
    "modernbert": _masked("ModernBert", {**BASE, "global_attn_every_n_layers": 2, "local_attention": 4}),
    "deberta-v2": _masked("DebertaV2", {
        **BASE, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
    }),
    "mpnet": _masked("MPNet", BASE, positions=2),
    "xlnet": Specimen(
        "XLNetLMHeadModel", "XLNetConfig", {"n_layer": 2, "n_head": 2, "d_model": 16, "d_inner": 32}, predicts="itself",
        positions=None,
    ),
    "t5": _two_stacks("T5", T5),
    "t5, untied": _two_stacks("T5", {**T5, "tie_word_embeddings": False, "feed_forward_proj": "gated-gelu"}),
    "umt5": _two_stacks("UMT5", T5),
    "bart": _two_stacks("Bart", BART, left=COLUMNS),
    "mbart": _two_stacks("MBart", BART, left=COLUMNS),
    "pegasus": _two_stacks("Pegasus", BART, left=COLUMNS),
    "marian": Specimen(
        "MarianMTModel", "MarianConfig", BART | {"decoder_start_token_id": 0}, positions=None, left=COLUMNS,
    ),
}

MAMBA = {"mamba_d_state": 4, "num_key_value_heads": 2}
ALSO: dict[str, Specimen] = {
    "falcon-h1": _causal("FalconH1", {
        **BASE, **MAMBA, "head_dim": 8, "mamba_d_ssm": 16, "mamba_n_heads": 2, "mamba_d_head": 8, "mamba_n_groups": 1,
        "lm_head_multiplier": 0.3, "embedding_multiplier": 2.0,
    }),
    "jamba": _causal("Jamba", {
        **BASE, **MAMBA, "num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1,
        "expert_layer_period": 2, "num_experts": 2, "mamba_dt_rank": 4,
    }),
    "recurrentgemma": _causal("RecurrentGemma", {
        **BASE, "num_key_value_heads": 1, "lru_width": 16, "attention_window_size": 4,
    }, left="its recurrence runs through the padding"),
    "hyperclovax": _causal("HyperCLOVAX", {**BASE, "num_key_value_heads": 2, "logits_scaling": 0.25}),
    "xlstm": _causal(
        "xLSTM", {"num_hidden_layers": 2, "hidden_size": 16, "num_heads": 2}, positions=None, attention=False,
        left="it takes no mask", double=NARROWED,
    ),
    "llama4": Specimen("Llama4ForCausalLM", "Llama4TextConfig", {**GROUPED, **MOE, "intermediate_size_mlp": 32}),
    "ctrl": Specimen("CTRLLMHeadModel", "CTRLConfig", {"n_layer": 3, "n_head": 2, "n_embd": 16, "dff": 32}),
    "xlm-roberta": _masked("XLMRoberta", BASE, positions=1),
    "rembert": _masked("RemBert", {**BASE, "input_embedding_size": 8, "output_embedding_size": 12}),
    "fnet": _masked("FNet", BASE, attention=False, left="it takes no mask and mixes all positions"),
    "mt5": _two_stacks("MT5", T5),
    "longt5": _two_stacks("LongT5", T5),
    "m2m100": _two_stacks("M2M100", BART),
    "longformer": _masked("Longformer", {**BASE, "attention_window": 4}, refused="residual stream"),
    "funnel": _masked("Funnel", {
        "block_sizes": [1, 1], "d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 32,
    }, refused="several stacks"),
}
"""More architectures, with a read-out or a refusal of their own; only read out."""


def make_tokenizer(*, model_max_length: int = 30) -> Any:
    """A tokenizer of whole words; one number below its largest belongs to no token."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
    plain = TEXT.split() + [f"word{i}" for i in range(VOCABULARY)]
    table = {token: i for i, token in enumerate(dict.fromkeys([*special, *plain]))}
    # the head of the model is a little wider than this, and one number belongs to no token
    table = {token: i + (i >= UNUSED) for token, i in table.items() if i < VOCABULARY - 4}
    raw = Tokenizer(models.WordLevel(table, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        mask_token="<mask>", model_max_length=model_max_length,
    )


def make_net(model_class: str, config_class: str, settings: dict[str, Any], *, seed: int = 0) -> Any:
    """A random model in which every norm and bias is perturbed, so that leaving one out shows."""
    import torch
    import transformers

    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if config_class == "ModernBertConfig":
        ids |= {"cls_token_id": 1, "sep_token_id": 2}
    torch.manual_seed(seed)
    config = getattr(transformers, config_class)(**{"vocab_size": VOCABULARY, **ids, **settings})
    net = getattr(transformers, model_class)(config).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.5)
            elif "mixer" not in name:
                parameter.mul_(10)
        for name, buffer in net.named_buffers():
            if name == "final_logits_bias":
                buffer.add_(torch.randn_like(buffer))
    return net


def make_specimen(name: str, *, seed: int = 0) -> Any:
    """The network of one entry of the zoo."""
    entry = {**ZOO, **ALSO}[name]
    return make_net(entry.model, entry.config, entry.settings, seed=seed)


def tail_of(net: Any, ids: Any, states: Any = None, *, mask: Any = None, **more: Any) -> tuple[Any, Any]:
    """Residual stream (L + 1, texts, T, d) by hooks, and the logits (texts, T, V), of ids (texts, T).

    With states (texts, T, d) these go on in the place of what the last block returned, so that the logits are those
    the model itself makes of them. Of two stacks it is the decoder's stream, and the source is the same text.
    """
    import inspect

    import torch

    from infogeo_adapters.transformers.stack import find_stack, quiet, runner

    stack = find_stack(net, "decoder")
    stream: list[Any] = []

    def turned(x: Any) -> Any:
        return x.transpose(0, 1) if stack.time_major else x

    def enter(module: Any, args: Any, kwargs: Any) -> None:
        if not stream:
            stream.append(turned((args[0] if args else kwargs["hidden_states"]).clone()))

    def leave(module: Any, args: Any, output: Any) -> Any:
        first = output[0] if isinstance(output, tuple) else output
        stream.append(turned(first.clone()))
        if states is None or len(stream) <= stack.depth:
            return None
        other = turned(states)
        return (other, *output[1:]) if isinstance(output, tuple) else other

    taken = inspect.signature(net.forward).parameters
    mask = torch.ones_like(ids) if mask is None else mask
    given = {"attention_mask": mask, "use_cache": False, **more}
    if stack.side == "decoder":
        given |= {"decoder_input_ids": ids, "decoder_attention_mask": mask}
    handles = []
    try:
        for block in dict.fromkeys(runner(net, stack.side).get_submodule(stack.path).children()):
            handles += [block.register_forward_pre_hook(enter, with_kwargs=True), block.register_forward_hook(leave)]
        with torch.no_grad(), quiet():
            output = net(input_ids=ids, **{k: v for k, v in given.items() if k in taken})
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack(stream), output.logits
