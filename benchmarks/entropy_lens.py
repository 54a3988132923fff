r"""Entropy-Lens (arXiv 2502.16570) once more: families, tasks, formats, correctness, orders, expansion, on any models.

    python benchmarks/entropy_lens.py --heldout children-heldout.txt --text children-train.txt.xz --out lens.json
    python benchmarks/entropy_lens.py --heldout children-heldout.txt --models gpt2=./gpt2 gpt2=./gpt2-medium \
        llama=./llama-1b llama=./llama-3b --train none --only families correctness

Models are names or folders for ``load_model``, each with its family before an equals sign where it has one. With
``--text`` small models of five families are trained first and kept in ``--cache``; an interrupted training goes on.
Every fold keeps stories, topics, passages and models together, every interval is over them, all draws have seeds.
Tables go to the screen, with ``--out`` to a JSON file too (written again after each experiment). No network.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from _entropy_lens_families import families
from _entropy_lens_models import FAMILIES, Training, members, trained_members
from _entropy_lens_predictions import correctness, expansion, orders
from _entropy_lens_prompts import formats, tasks
from _entropy_lens_tables import Entry, Settings, Table, say
from _entropy_lens_texts import passages

from infogeo.errors import InfogeoError
from infogeo_adapters.models import background_text

EXPERIMENTS = ("families", "task", "format", "correctness", "orders", "expansion")
MODELS = ("bundled", "bundled@0", "bundled@512", "bundled@128", "bundled@32")
PROMPTED = 2
"""How many of ``--models`` the experiments with prompts take, since they run thousands of them."""
TINY = {"resamples": 4, "samples": 4, "sample_tokens": 4, "neighbors": 3, "folds": 2, "stories": 2, "task_tokens": 2,
        "topics": 2, "format_tokens": 4, "format_windows": 2, "texts": 8, "positions": 10}


def entry(value: str) -> Entry:
    """``family=model`` or ``model``."""
    family, _, name = value.rpartition("=")
    return Entry(name, family or None)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line; every size of the settings is an option of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heldout", type=Path, help="UTF-8 text that no model was trained on, books three line ends "
                        "apart (default: the small sample that ships with infogeo)")
    parser.add_argument("--models", type=entry, nargs="+", default=[entry(m) for m in MODELS])
    parser.add_argument("--only", choices=EXPERIMENTS, nargs="+", default=list(EXPERIMENTS))
    parser.add_argument("--train", nargs="+", default=list(FAMILIES), help="families to train, or none")
    parser.add_argument("--depths", type=int, nargs="+", default=[4, 5, 6], help="blocks of the members of a family")
    parser.add_argument("--text", type=Path, help="text to train on, plain or .xz")
    parser.add_argument("--cache", type=Path, default=Path("runs/entropy_lens/models"))
    parser.add_argument("--minutes", type=float, default=60, help="most minutes of training in this run")
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--tiny", action="store_true", help="sizes that show that it runs, and nothing else")
    for item in [*fields(Settings), *fields(Training)]:
        parser.add_argument(f"--{item.name.replace('_', '-')}", type=type(item.default), help=f"default {item.default}")
    args = parser.parse_args(arguments)
    for path in (args.heldout, args.text):
        if path is not None and not path.is_file():
            parser.error(f"{path} is not a file")
    return args


def chosen(kind: type[Any], args: argparse.Namespace, defaults: dict[str, Any]) -> Any:
    """Settings with what the command line says."""
    given = {f.name: getattr(args, f.name) for f in fields(kind) if getattr(args, f.name) is not None}
    return kind(**{**defaults, **given})


def trained(args: argparse.Namespace, training: Training) -> list[Entry]:
    """The members of the families, trained where they are not yet; without a text only those that are."""
    if args.train == ["none"]:
        return []
    found = trained_members(
        members(args.train, args.depths), training, text_path=args.text, folder=args.cache, minutes=args.minutes
    )
    return [Entry(str(at.resolve()), member.family) for member, at in found]


def experiment(name: str, args: argparse.Namespace, made: list[Entry], settings: Settings) -> list[Table]:
    """The tables of one experiment."""
    text = background_text() if args.heldout is None else args.heldout.read_text(encoding="utf-8")
    first = list({e.family: e for e in reversed(made)}.values())[::-1]
    some = [p for _, p in passages(text, settings.texts, seed=settings.seed)]
    few = some[:: max(1, len(some) // max(4, settings.texts // 4))]
    if name == "families":
        return families([*made, *args.models], few, settings)
    if name == "task":
        return tasks(args.models[:PROMPTED], [p for _, p in passages(text, settings.stories, seed=settings.seed)],
                     settings)
    if name == "format":
        return formats(args.models[:PROMPTED], settings)
    if name == "correctness":
        return correctness([*args.models, *first], some, settings)
    if name == "orders":
        return orders(args.models[:1], few, settings)
    return expansion([*args.models, *first], few, settings)


def versions() -> dict[str, str]:
    """Of Python and the packages that decide the numbers."""
    packages = ("infogeo", "numpy", "scikit-learn", "torch", "transformers")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in packages}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiments; returns 0, or 1 where one could not be run."""
    args = parsed(arguments)
    if importlib.util.find_spec("sklearn") is None:
        print("skipped: the folds, nearest neighbors and AUC are scikit-learn's; pip install scikit-learn")
        return 0
    settings = chosen(Settings, args, TINY if args.tiny else {})
    training = chosen(Training, args, {})
    made = trained(args, training) if {"families", "correctness", "expansion"} & set(args.only) else []
    try:
        hashes = {e.shown: e.load().source.content_hash for e in [*made, *args.models]}
    except InfogeoError as error:
        say(f"{type(error).__name__}: {error}")
        return 1
    record: dict[str, Any] = {
        "settings": asdict(settings), "training": asdict(training),
        "heldout": "sample" if args.heldout is None else args.heldout.name,
        "versions": versions(), "models": hashes, "experiments": {},
    }
    failed = 0
    for name in args.only:
        clock = time.perf_counter()
        try:
            tables = experiment(name, args, made, settings)
        except InfogeoError as error:
            failed = 1
            say(f"{name}: {type(error).__name__}: {error}")
            continue
        seconds = round(time.perf_counter() - clock, 1)
        print(f"## {name} ({seconds} s)\n")
        for table in tables:
            print("\n".join(table.lines()))
        sys.stdout.flush()
        record["experiments"][name] = {"seconds": seconds, "tables": [t.record() for t in tables]}
        if args.out is not None:
            partial = args.out.with_name(args.out.name + ".partial")
            partial.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            os.replace(partial, args.out)
    return failed


if __name__ == "__main__":
    raise SystemExit(main())
