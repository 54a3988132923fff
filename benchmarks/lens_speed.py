"""Time and memory of the lens beside the bare products, the Entropy-Lens recipe and entropy-profiler, in one run.

For each model one text is captured; then, best of --runs in turn:

products          the unembedding of all layers of all tokens, as many rows at a time as the lens takes
lens              logit_lens on the captured states: entropy, divergences, distances, ranks, most probable token
lens, entropy     the same without comparisons between layers (compare=False)
capture and lens  logit_lens on the text
one at a time     what Entropy-Lens does with a state: norm, unembedding, softmax, -sum p log p, for one token and one
                  layer after the other, from the same captured states
Entropy-Lens      the whole recipe: the text up to each position is run again and read out at the last position
entropy-profiler  its own profile of the same token ids, if it is installed (it runs the model itself)

The second column is seconds, the third the ratio to the products, the fourth the peak of memory above what was held
before (Linux only). The random model has GPT-2's shape, 12 blocks of width 768 and 50,257 outcomes, and weights drawn
here. MiniLM has no head: of it only the capture is timed::

    python benchmarks/lens_speed.py --runs 5 --tokens 256

Exit status 1 if a target is missed: the lens within 1.3 times of the products, and at least 3 times faster, with its
capture, than the recipe and than entropy-profiler.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infogeo.activations import LayerActivations
from infogeo_adapters import capture_activations, find_readout, load_model, logit_lens
from infogeo_adapters.models import background_text
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.readout import MEMORY

RATIO, FASTER = 1.3, 3.0


def random_gpt2(*, tiny: bool) -> LanguageModel:
    """A random model of GPT-2's shape with the tokenizer of the bundled model."""
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = load_model().tokenizer
    size = {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 4100} if tiny else {}
    torch.manual_seed(0)
    config = GPT2Config(**size, bos_token_id=0, eos_token_id=0)
    net = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        net.transformer.wte.weight.mul_(3)
    return load_model(net, tokenizer=tokenizer)


def some_text(model: LanguageModel, tokens: int) -> str:
    """The beginning of the packaged text, about as long as asked."""
    words = background_text().split()
    count = tokens
    while len(model.tokenizer(" ".join(words[:count])).input_ids) > tokens:
        count -= 1
    return " ".join(words[:count])


def states_of(acts: LayerActivations) -> torch.Tensor:
    """(T, R, d)"""
    return torch.as_tensor(np.array(acts.hidden_states)).transpose(0, 1).contiguous()


def bare_products(model: LanguageModel, acts: LayerActivations) -> Callable[[], object]:
    """The products with the unembedding, chunk by chunk as the lens makes them."""
    head: Any = model.model.get_output_embeddings()
    weight = head.weight.detach()
    states = states_of(acts)
    at_once = max(1, int(MEMORY // (states.shape[1] * len(weight) * 4)))

    def run() -> None:
        for start in range(0, len(states), at_once):
            states[start : start + at_once].flatten(0, 1) @ weight.T

    return run


def one_at_a_time(model: LanguageModel, acts: LayerActivations) -> Callable[[], np.ndarray]:
    """Entropies of one token and layer after the other."""
    states = states_of(acts)

    def run() -> np.ndarray:
        with find_readout(model).session() as project:
            found = [[entropy_with_epsilon(project(states[t, layer][None])) for layer in range(states.shape[1])]
                     for t in range(len(states))]
        return np.asarray(found).T

    return run


def entropy_with_epsilon(logits: torch.Tensor) -> float:
    """The formula of Entropy-Lens, whose 1e-20 is there against the logarithm of zero."""
    p = logits.float().softmax(-1)
    return float(-(p * (p + 1e-20).log()).sum())


def recipe(model: LanguageModel, acts: LayerActivations) -> Callable[[], np.ndarray]:
    """Entropy-Lens: each beginning of the text is run and read out at its last position, without the embedding."""
    ids = torch.as_tensor(np.array(acts.token_ids))[None]
    net: Any = model.model
    norm = net.get_submodule(find_readout(model).path[0])

    def run() -> np.ndarray:
        columns = []
        with torch.no_grad():
            for t in range(1, ids.shape[1] + 1):
                hidden = net(input_ids=ids[:, :t], output_hidden_states=True, use_cache=False).hidden_states
                # the last entry is normed already
                rows = [norm(h[0, -1]) for h in hidden[1:-1]] + [hidden[-1][0, -1]]
                columns.append([entropy_with_epsilon(net.lm_head(row)) for row in rows])
        return np.asarray(columns).T

    return run


def profiler(model: LanguageModel, acts: LayerActivations) -> Callable[[], np.ndarray] | None:
    """entropy-profiler on the same model object and ids, or None if it is absent."""
    if importlib.util.find_spec("entropy_profiler") is None:
        return None
    from entropy_profiler import profiler as package

    peer = package.EntropyProfiler.__new__(package.EntropyProfiler)
    peer.model_name, peer.alpha, peer.layer_stride, peer.device = "given", 1.0, 1, "cpu"
    peer.tokenizer, peer.model = model.tokenizer, model.model
    peer._ln, peer._lm_head = package._get_unembedding(model.model)
    ids = torch.as_tensor(np.array(acts.token_ids))[None]

    def run() -> np.ndarray:
        with torch.no_grad():
            return np.asarray(peer._profile_prompt(ids)).T

    return run


def best_of(calls: dict[str, Callable[[], object]], runs: int) -> dict[str, tuple[float, float | None]]:
    """Least seconds of each call, the calls taking turns, and the peak of memory in MB."""
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: (min(seconds[name]), peak_of(call)) for name, call in calls.items()}


def peak_of(call: Callable[[], object]) -> float | None:
    """Most memory above what was resident before, in MB; None where the system does not tell."""
    status, refs = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    try:
        refs.write_text("5")
        before = _kilobytes(status, "VmRSS")
        call()
        return (_kilobytes(status, "VmHWM") - before) / 1024
    except (OSError, StopIteration):
        return None


def _kilobytes(status: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))


def measured(name: str, model: LanguageModel, arguments: argparse.Namespace) -> Iterator[str]:
    """Lines of the table of one model; lines that begin with MISSED are targets."""
    text = some_text(model, arguments.tokens)
    acts = capture_activations(model, text, attention=False)
    yield (
        f"{name}: {len(acts.tokens)} tokens, {acts.n_layers} blocks of width {acts.dimension}, "
        f"{torch.get_num_threads()} threads"
    )
    calls: dict[str, Callable[[], object]] = {"capture": lambda: capture_activations(model, text, attention=False)}
    if model.has_head:
        calls |= {
            "products": bare_products(model, acts), "lens": lambda: logit_lens(model, acts),
            "lens, entropy": lambda: logit_lens(model, acts, compare=False),
            "capture and lens": lambda: logit_lens(model, text), "one at a time": one_at_a_time(model, acts),
        }
        if not arguments.skip_recipe:
            calls["Entropy-Lens"] = recipe(model, acts)
        peer = profiler(model, acts)
        if peer is None:
            yield "entropy-profiler is not installed and left out"
        else:
            calls["entropy-profiler"] = peer
    table = best_of(calls, arguments.runs)
    bare = table["products"][0] if model.has_head else None
    for call, (seconds, peak) in table.items():
        ratio = "" if bare is None else f"{seconds / bare:8.2f}"
        memory = "" if peak is None else f"{peak:8.0f} MB"
        speed = f"{len(acts.tokens) / seconds:10.0f} tokens/s"
        yield f"  {call:18s}{seconds:10.4f} s{ratio:>9s}{memory}{speed}"
    if not model.has_head:
        return
    ours = logit_lens(model, acts).entropy
    for call in ("one at a time", "Entropy-Lens", "entropy-profiler"):
        if call in calls:
            theirs: Any = calls[call]()
            wanted = ours if len(theirs) == len(ours) else ours[1:]
            apart = np.abs(theirs - wanted)
            yield (
                f"  {call}: largest difference to the lens {apart[:-1].max():.1e} nats below the last layer, "
                f"{apart[-1].max():.1e} at the last"
            )
    double = logit_lens(model, acts, compare=False, readout=find_readout(model, dtype="float64")).entropy
    yield f"  lens: largest difference to a read-out in double precision {np.abs(ours - double).max():.1e} nats"
    yield (
        f"  beside the products: {table['lens'][0] / table['products'][0]:.2f} times, entropy alone "
        f"{table['lens, entropy'][0] / table['products'][0]:.2f} times"
    )
    for call in ("lens", "lens, entropy"):
        if table[call][0] > RATIO * table["products"][0]:
            yield f"MISSED {name}: {call} takes {table[call][0] / table['products'][0]:.2f} times the bare products"
    for call in ("Entropy-Lens", "entropy-profiler"):
        if call in table and table[call][0] < FASTER * table["capture and lens"][0]:
            yield f"MISSED {name}: only {table[call][0] / table['capture and lens'][0]:.1f} times faster than {call}"


def main(argv: list[str] | None = None) -> int:
    """Print the tables; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=256, help="most tokens of the text")
    parser.add_argument("--threads", type=int, help="threads of torch, by default its own choice")
    parser.add_argument("--models", nargs="+", default=["bundled", "gpt2-shape", "minilm"])
    parser.add_argument("--skip-recipe", action="store_true", help="leave out the slow Entropy-Lens recipe")
    parser.add_argument("--tiny", action="store_true", help="sizes for a test")
    arguments = parser.parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    missed = False
    for name in arguments.models:
        model = random_gpt2(tiny=arguments.tiny) if name == "gpt2-shape" else load_model(name)
        for line in measured(name, model, arguments):
            missed |= line.startswith("MISSED")
            print(line, flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
