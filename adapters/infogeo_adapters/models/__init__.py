"""The small language model that ships with infogeo: where its files lie.

``bundled/`` holds the trained model with its tokenizer, a folder as transformers reads it, and
``checkpoints/step-NNNNNN/`` the same network earlier in its training: the same configuration, other weights, and no
second copy of the tokenizer. How all of it was made:
``python -m infogeo_adapters.models.train`` and ``python -m infogeo_adapters.models.install``.

Importing this module reads no file and imports neither torch nor transformers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infogeo.errors import ArgumentError, ModelError

FOLDER = Path(__file__).parent
"""Folder of everything that belongs to the bundled model."""


def bundled_recipe() -> dict[str, Any]:
    """How the bundled model was trained: settings, data and their hashes, versions, measured losses.

    Returns
    -------
    dict
        The content of ``recipe.json``, as JSON types.

    Raises
    ------
    ModelError
        If the installation lacks the file.

    Examples
    --------
    >>> bundled_recipe()["settings"]["n_layers"]
    6
    """
    path = FOLDER / "recipe.json"
    if not path.is_file():
        raise ModelError(f"found no {path}; the installation lacks the bundled model, install infogeo again")
    recipe: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return recipe


def bundled_steps() -> tuple[int, ...]:
    """Training steps whose weights ship, rising; the last one is the bundled model itself.

    Returns
    -------
    tuple of int
        Numbers of optimizer steps, 0 for the untrained network. Each can be given to `bundled_path`.

    Raises
    ------
    ModelError
        If the installation lacks the bundled model.

    Examples
    --------
    >>> steps = bundled_steps()
    >>> steps[0], steps == tuple(sorted(steps))
    (0, True)
    """
    early = {int(p.parent.name[len("step-") :]) for p in FOLDER.glob("checkpoints/step-*/model.safetensors")}
    return tuple(sorted(early | {int(bundled_recipe()["bundled_step"])}))


def bundled_path(step: int | None = None) -> Path:
    """Folder of the bundled model, or of one of its checkpoints.

    Parameters
    ----------
    step : int, optional
        One of `bundled_steps`. Without it, the trained model.

    Returns
    -------
    Path
        Holds weights and configuration as transformers reads them, for the trained model also the tokenizer, which
        all of them share. :func:`infogeo_adapters.load_model` takes each of these folders as it is.

    Raises
    ------
    ArgumentError
        If no weights of that step ship.
    ModelError
        If the installation lacks the bundled model.

    Examples
    --------
    >>> sorted(p.name for p in bundled_path().iterdir())
    ['config.json', 'model.safetensors', 'tokenizer.json', 'tokenizer_config.json']
    >>> bundled_path(0).name
    'step-000000'
    """
    bundled = FOLDER / "bundled"
    if not (bundled / "model.safetensors").is_file():
        raise ModelError(f"found no weights in {bundled}; the installation lacks them, install infogeo again")
    if step is None:
        return bundled
    steps = bundled_steps()
    if step not in steps:
        raise ArgumentError(f"step {step} of the bundled model does not ship; choose from {', '.join(map(str, steps))}")
    return bundled if step == steps[-1] else FOLDER / "checkpoints" / f"step-{step:06d}"


def background_text() -> str:
    """The background sample: about 6,000 words of English prose that the bundled model was not trained on.

    Returns
    -------
    str
        Whole paragraphs, separated by blank lines.

    Raises
    ------
    ModelError
        If the installation lacks the file.

    Examples
    --------
    >>> 5000 < len(background_text().split()) < 7000
    True
    """
    path = FOLDER / "background.txt"
    if not path.is_file():
        raise ModelError(f"found no {path}; the installation lacks the background sample, install infogeo again")
    return path.read_text(encoding="utf-8")
