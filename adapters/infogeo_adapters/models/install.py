"""Put a trained run into the package: the model, early checkpoints, the training log and the background sample.

Run it when `infogeo_adapters.models.train` has ended ::

    python -m infogeo_adapters.models.install --run runs/bundled --text children-train.txt.xz

Everything is checked before the first file is written: the weights are finite float16 numbers, all checkpoints
share one configuration and one tokenizer, and the model stays under 8 MB. The tokenizer ships once, beside the trained
model. What an earlier installation left in the folders is removed. Run twice, it writes the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from infogeo.errors import FormatError, InfogeoError
from infogeo_adapters.models import FOLDER

MAX_BYTES = 8_000_000
"""Largest size of the bundled model: weights, configuration and tokenizer together."""
DEV_SHARE = 0.005
"""Share of the token ids, at their end, that the training kept for the development loss."""
NETWORK = ("config.json", "model.safetensors")
"""Files of a checkpoint that ship as they are."""
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
"""Files of the tokenizer, which ship beside the trained model only; the second one gets one more setting."""
WHERE_FROM = ("is_local", "local_files_only")
"""Settings of a tokenizer that say how it was loaded, not what it is."""
VERSIONS = ("numpy", "tokenizers", "torch", "transformers")


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checkpoints_of(run: Path) -> dict[int, Path]:
    """Checkpoint folders of a run by training step, rising."""
    folders = [p for p in run.glob("checkpoints/step-*") if (p / "model.safetensors").is_file()]
    found = {int(p.name[len("step-") :]): p for p in folders}
    if not found:
        raise FormatError(f"{run} holds no checkpoints/step-*/model.safetensors; name the --run folder of a training")
    return dict(sorted(found.items()))


def check_checkpoint(folder: Path) -> int:
    """Number of parameters of a checkpoint; an error unless all of them are finite float16 numbers."""
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        if tensor.dtype != np.float16:
            raise FormatError(f"{folder}: {name} is {tensor.dtype}, wanted float16, which the training script writes")
        if not np.isfinite(tensor).all():
            raise FormatError(f"{folder}: {name} holds NaN or infinity; this checkpoint cannot be shipped")
    return sum(tensor.size for tensor in tensors.values())


def thinned_log(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a training log that ship: the first 64 steps, then ever fewer, and every development loss.

    Numbers are rounded to five significant digits.
    """
    kept = []
    for row in rows:
        every = 1 if row["step"] < 64 else 8 if row["step"] < 512 else 32
        if row["step"] % every == 0 or "dev_loss" in row or row is rows[-1]:
            kept.append({k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in row.items()})
    return kept


def background_sample(text: str, *, words: int = 6000, stretches: int = 20, offset: float = 0.2) -> str:
    r"""Whole paragraphs from places spread evenly over a text: a sample of prose for background statistics.

    The text is cut into ``stretches`` parts of equal length. In each, paragraphs are taken in order from ``offset``
    of its length on, until the sample has grown to the share of the words due by then. Passed over are paragraphs
    of fewer than six words and those that do not begin with a capital and end a sentence (headings, captions,
    imprints). No random choice is made: the same text gives the same sample.

    Parameters
    ----------
    text : str
        Paragraphs separated by blank lines.
    words : int, optional
        Number of words wanted; the sample has a few more, since paragraphs stay whole.
    stretches : int, optional
        Number of places.
    offset : float, optional
        Where in each part the sample begins, as a share of its length.

    Returns
    -------
    str
        Paragraphs separated by blank lines, a line feed at the end.

    Raises
    ------
    FormatError
        If the text holds too few such paragraphs.

    Examples
    --------
    >>> text = "TITLE\n\nThe cat sat on the old mat.\n\n[Picture]\n\nA dog slept beside the warm red fire."
    >>> background_sample(text, words=10, stretches=1, offset=0.0)
    'The cat sat on the old mat.\n\nA dog slept beside the warm red fire.\n'
    """
    sentence = re.compile(r"[\"'“‘_]*[^\W\d_a-z].*[.!?…][\"'”’_)]*", re.DOTALL)
    sample: list[str] = []
    count = 0
    for i in range(stretches):
        first, end = int((i + offset) * len(text) / stretches), (i + 1) * len(text) // stretches
        start = first if first == 0 else text.find("\n\n", first, end)
        due = words * (i + 1) / stretches
        for paragraph in text[start:end].split("\n\n")[: -1 if end < len(text) else None] if start >= 0 else ():
            paragraph = paragraph.strip()
            if count < due and len(paragraph.split()) >= 6 and sentence.fullmatch(paragraph):
                sample.append(paragraph)
                count += len(paragraph.split())
        if count < due:
            raise FormatError(
                f"up to part {i + 1} of {stretches} the text gave {count} words in whole paragraphs of prose, wanted "
                f"{due:.0f}; give a longer text or ask for fewer words"
            )
    return "\n\n".join(sample) + "\n"


def development_text(run: Path) -> str:
    """The text at the end of the training data that no gradient step saw, from its first paragraph start on."""
    ids = np.load(run / "ids.npy", mmap_mode="r")
    kept_back = ids[int(len(ids) * (1 - DEV_SHARE)) :]
    text: str = Tokenizer.from_file(str(run / "tokenizer" / "tokenizer.json")).decode(kept_back.tolist())
    return text[text.index("\n\n") + 2 :]


def recipe_of(run: Path, text: Path | None, step: int, parameters: int) -> dict[str, Any]:
    """How a run was made: settings, data and their hashes, versions, losses."""
    settings = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
    if text is not None and text.stat().st_size != settings["text_bytes"]:
        raise FormatError(
            f"{text} has {text.stat().st_size} bytes, the text of {run} had {settings['text_bytes']}; "
            f"give the file that the run was trained on, {settings['text']}"
        )
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if row["step"] < step]
    ids = np.load(run / "ids.npy", mmap_mode="r")
    dev = [row["dev_loss"] for row in rows if "dev_loss" in row]
    return {
        "bundled_step": step,
        "finished": step == settings["steps"],
        "parameters": parameters,
        "settings": settings,
        "data": {
            "text": settings["text"],
            "text_sha256": digest(text) if text is not None else None,
            "tokens": len(ids),
            "tokens_sha256": digest(run / "ids.npy"),
            "development_share": DEV_SHARE,
            "tokens_trained_on": step * settings["tokens_per_step"],
        },
        "versions": {name: version(name) for name in VERSIONS} | {"python": sys.version.split()[0]},
        "last_training_loss": round(float(np.mean([row["loss"] for row in rows[-50:]])), 4) if rows else None,
        "last_development_loss": round(dev[-1], 4) if dev else None,
    }


def put(target: Path, content: bytes | Path) -> None:
    """Write bytes, or a file's content, to a path in one step, readable by all."""
    partial = target.with_name(target.name + ".partial")
    if isinstance(content, Path):
        shutil.copyfile(content, partial)
    else:
        partial.write_bytes(content)
    partial.chmod(0o644)
    os.replace(partial, target)


def fill(place: Path, files: Mapping[str, bytes | Path]) -> None:
    """Make a folder hold these files and no others."""
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        put(place / name, content)
    for old in place.iterdir():
        if old.name not in files:
            old.unlink()


def as_json(value: Any) -> bytes:
    """Readable JSON, sorted, with a line feed at the end."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def tokenizer_settings(folder: Path) -> bytes:
    """The tokenizer's settings; a text that happens to spell ``<|begin|>`` is plain text and never the begin token.

    What transformers notes about where a tokenizer was loaded from, as it does after a run was resumed, is left out.
    """
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    kept = {name: value for name, value in settings.items() if name not in WHERE_FROM}
    return as_json(kept | {"split_special_tokens": True})


def install(
    run: Path, *, text: Path | None = None, early: Sequence[int] = (0, 32, 128, 512), target: Path = FOLDER
) -> dict[str, Any]:
    """Copy the last checkpoint of a run, its early checkpoints and its log into the package.

    Parameters
    ----------
    run : Path
        Folder that the training script wrote.
    text : Path, optional
        The text that was trained on, for its hash.
    early : sequence of int, optional
        Steps of the early checkpoints to ship; each must exist in the run.
    target : Path, optional
        Folder to write to; the package's own by default.

    Returns
    -------
    dict
        The content of ``recipe.json``.

    Raises
    ------
    FormatError
        If a checkpoint is missing, damaged or differs from the others in configuration or tokenizer, if the text
        is not the one trained on, or if the model is larger than 8 MB. Nothing is written or removed then.
    """
    folders = checkpoints_of(run)
    last = max(folders)
    missing = sorted(set(early) - set(folders))
    if missing:
        raise FormatError(f"{run} has no checkpoint of step {missing[0]}; it has {', '.join(map(str, folders))}")
    chosen = {step: folders[step] for step in sorted(set(early) - {last})}
    parameters = check_checkpoint(folders[last])
    for step, folder in chosen.items():
        check_checkpoint(folder)
        for name in ("config.json", *TOKENIZER):
            told = name == "tokenizer_config.json"
            one, other = (tokenizer_settings(f) if told else (f / name).read_bytes() for f in (folder, folders[last]))
            if one != other:
                raise FormatError(f"{name} of step {step} differs from that of step {last}; they are not of one run")
    tokenizer: dict[str, bytes | Path] = {
        "tokenizer.json": folders[last] / "tokenizer.json",
        "tokenizer_config.json": tokenizer_settings(folders[last]),
    }
    size = sum((folders[last] / name).stat().st_size for name in NETWORK)
    size += (folders[last] / "tokenizer.json").stat().st_size + len(tokenizer_settings(folders[last]))
    if size > MAX_BYTES:
        raise FormatError(f"the model of step {last} takes {size:,} bytes, at most {MAX_BYTES:,} may ship")
    recipe = recipe_of(run, text, last, parameters)
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    log = thinned_log([row for row in rows if row["step"] < last])
    sample = background_sample(development_text(run))

    fill(target / "bundled", {**{name: folders[last] / name for name in NETWORK}, **tokenizer})
    for folder in chosen.values():
        fill(target / "checkpoints" / folder.name, {name: folder / name for name in NETWORK})
    for old in (target / "checkpoints").glob("step-*"):
        if old.name not in {folder.name for folder in chosen.values()}:
            shutil.rmtree(old)
    recipe["files_sha256"] = {
        str(p.relative_to(target).as_posix()): digest(p)
        for p in sorted([*target.glob("bundled/*"), *target.glob("checkpoints/*/*")])
    }
    put(target / "training_log.jsonl", "".join(json.dumps(row) + "\n" for row in log).encode())
    put(target / "background.txt", sample.encode())
    put(target / "recipe.json", as_json(recipe))
    return recipe


def main(argv: list[str] | None = None) -> int:
    """Command line of the installation script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of the training run")
    parser.add_argument("--text", type=Path, help="the text trained on, plain or .xz; its hash goes into recipe.json")
    parser.add_argument("--early", type=int, nargs="*", default=[0, 32, 128, 512], help="early checkpoints to ship")
    parser.add_argument("--target", type=Path, default=FOLDER, help="folder to write to (default: the package)")
    args = parser.parse_args(argv)
    try:
        recipe = install(args.run, text=args.text, early=args.early, target=args.target)
    except (InfogeoError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    state = "the finished training" if recipe["finished"] else "an unfinished training"
    print(f"{args.target}: step {recipe['bundled_step']} of {state}, {recipe['parameters']:,} parameters")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
