r"""How much better than the plain logit lens is a tuned one? Fitted on one text, reported on another, by layer.

    python benchmarks/tuned_lens.py --text children-train.txt.xz --heldout children-heldout.txt
    python benchmarks/tuned_lens.py --text ... --heldout ... --compare --steps 150 --kilobytes 300

The bundled model is used, or --model. From --text, which may be xz-compressed, --kilobytes are taken from places spread
evenly over it, and cut at blank lines into texts of about 2,500 characters. The held-out file is cut in the same way:
the first half of its texts serves for choices (--compare), the second half for the report only. The table has for each
layer the plain and the tuned lens, with intervals from a bootstrap over texts, and marks with * the layers where the
interval of what the tuned lens gains does not lie above zero. With --checkpoint a stopped fit goes on.

--compare fits with the step of the library, with SGD as in Belrose et al. 2023 and with Adam, at a few learning rates,
and prints the divergence from the final prediction on texts of the first half.
"""

from __future__ import annotations

import argparse
import dataclasses
import lzma
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from infogeo_adapters import LanguageModel, TunedLens, fit_tuned_lens, lens_quality, load_model, progress_bar
from infogeo_adapters import _tuned_job as jobs
from infogeo_adapters import _tuned_training as kernels
from infogeo_adapters.transformers.readout import MEMORY

LENGTH = 2500
"""Characters of a text, about."""


def read(path: Path) -> str:
    """A UTF-8 file, xz-compressed or plain."""
    return (lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()).decode("utf-8")


def cut(text: str) -> list[str]:
    """Texts of about ``LENGTH`` characters, cut at blank lines."""
    found, current = [], ""
    for paragraph in text.split("\n\n"):
        current += paragraph + "\n\n"
        if len(current) >= LENGTH:
            found.append(current)
            current = ""
    return [*found, current] if current.strip() else found


def spread(texts: Sequence[str], kilobytes: float) -> list[str]:
    """Texts from places spread evenly over all of them, about so many kilobytes."""
    count = min(len(texts), max(2, round(kilobytes * 1000 / LENGTH)))
    return [texts[i] for i in np.linspace(0, len(texts) - 1, count).round().astype(int)]


def sgd(training: kernels.Training, slopes: torch.Tensor, rate: float) -> None:
    """Nesterov momentum 0.9 on A and b, the gradient of each layer clipped to norm 1: Belrose et al., section 3.2."""
    training.step += 1
    slopes = slopes.clone()
    slopes[..., -1] /= training.scale[:, None]
    slopes /= slopes.flatten(1).norm(dim=1).clamp_min(1.0)[:, None, None]
    training.momentum.mul_(0.9).add_(slopes)
    ahead = slopes + 0.9 * training.momentum
    training.weights.sub_(ahead[..., :-1], alpha=rate)
    training.biases.sub_(ahead[..., -1], alpha=rate)


def adam() -> kernels.Rule:
    """Adam with memories 0.9 and 0.95 on A and b."""
    square: list[torch.Tensor] = []

    def step(training: kernels.Training, slopes: torch.Tensor, rate: float) -> None:
        training.step += 1
        slopes = slopes.clone()
        slopes[..., -1] /= training.scale[:, None]
        square[:] = square or [torch.zeros_like(slopes)]
        training.momentum.mul_(0.9).add_(slopes, alpha=0.1)
        square[0].mul_(0.95).addcmul_(slopes, slopes, value=0.05)
        moved = training.momentum / (1 - 0.9**training.step)
        moved /= (square[0] / (1 - 0.95**training.step)).sqrt() + 1e-8
        training.weights.sub_(moved[..., :-1], alpha=rate)
        training.biases.sub_(moved[..., -1], alpha=rate)

    return step


def compare(model: LanguageModel, training: list[str], judged: list[str], args: argparse.Namespace) -> None:
    """Divergence from the final prediction after fitting with other steps and rates, on texts that choose."""
    choices: list[tuple[str, Callable[[], kernels.Rule], tuple[float, ...]]] = [
        ("orthogonal", lambda: kernels.take_step, (0.02, 0.05, 0.1)), ("SGD", lambda: sgd, (0.3, 1.0)),
        ("Adam", adam, (1e-3, 3e-3)),
    ]
    print(f"{'step':12} {'rate':>6} {'seconds':>8}   KL from final, nats, layers 0 to {model.n_layers - 1}")
    plain = lens_quality(model, judged, resamples=1)
    print(f"{'none':12} {'':6} {'':8}   {'  '.join(f'{v:.3f}' for v in plain.kl_from_final[0, :-1])}", flush=True)
    for name, make, rates in choices:
        for rate in rates:
            start = time.perf_counter()
            lens = jobs.run(dataclasses.replace(
                jobs.make_job(
                    model, training, layers=None, window=None, steps=args.steps, batch_tokens=args.batch_tokens,
                    learning_rate=rate, validation_fraction=0.1, evaluate_every=args.steps, tolerance=1e-3,
                    patience=None, seed=args.seed, memory=MEMORY,
                ),
                rule=make(),
            ))
            seconds = time.perf_counter() - start
            found = lens_quality(model, judged, lens=lens, resamples=1).kl_from_final[1, :-1]
            print(f"{name:12} {rate:6g} {seconds:8.0f}   {'  '.join(f'{v:.3f}' for v in found)}", flush=True)


def report(model: LanguageModel, lens: TunedLens, judged: list[str]) -> None:
    """The table of plain against tuned, by layer."""
    found = lens_quality(model, judged, lens=lens)
    print(
        f"held out: {found.n_tokens} tokens of {found.n_texts} texts; intervals of {found.level:.0%}\n"
        "layer  lens   KL from final, nats        perplexity               bias, nats"
    )
    for k, layer in enumerate(found.layers):
        for m, name in enumerate(("plain", "tuned")[: len(found.lenses)]):
            cells = []
            for quantity in ("kl_from_final", "perplexity", "bias"):
                value, ends = getattr(found, quantity)[m, k], getattr(found, f"{quantity}_interval")[m, k]
                gained = found.gain_interval["cross_entropy" if quantity == "perplexity" else quantity][k, 0]
                mark = "*" if name == "tuned" and layer < model.n_layers and not gained > 0 else " "
                cells.append(f"{value:6.4g}{mark} {ends[0]:7.4g} to {ends[1]:7.4g}")
            print(f"{layer:5}  {name}  " + "  ".join(cells))


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--heldout", type=Path, required=True)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--kilobytes", type=float, default=500, help="of --text")
    parser.add_argument("--heldout-kilobytes", type=float, default=200, help="of the half of --heldout that is used")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--batch-tokens", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--save", type=Path, help="write the lens to this file")
    parser.add_argument("--compare", action="store_true")
    args = parser.parse_args(argv)
    model = load_model(args.model)
    training = spread(cut(read(args.text)), args.kilobytes)
    heldout = cut(read(args.heldout))
    half = heldout[: len(heldout) // 2] if args.compare else heldout[len(heldout) // 2 :]
    judged = spread(half, args.heldout_kilobytes)
    if args.compare:
        compare(model, training, judged, args)
        return 0
    start = time.perf_counter()
    with progress_bar("tuned lens", unit="steps") as show:
        lens = fit_tuned_lens(
            model, training, steps=args.steps, batch_tokens=args.batch_tokens, seed=args.seed,
            checkpoint=args.checkpoint, progress=show,
        )
    options = lens.source.options
    print(
        f"{lens.source.model}: fitted in {time.perf_counter() - start:.0f} s on {options['training_tokens']} tokens of "
        f"{options['training_texts']} texts, {len(lens.training_kl)} steps of {options['batch_tokens']}, "
        f"{torch.get_num_threads()} threads"
    )
    if args.save is not None:
        lens.save(args.save)
    report(model, lens, judged)
    return 0


if __name__ == "__main__":
    sys.exit(main())
