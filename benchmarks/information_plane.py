"""The information plane of the bundled model: three estimators, half the sample against all, training; the pictures.

    python benchmarks/information_plane.py
    python benchmarks/information_plane.py --pictures docs/_static

The second draws the pictures of docs/information_plane.md too, with chromium.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from infogeo import EstimateWarning, InformationPath, InformationPlane
from infogeo_adapters import (
    capture_activations,
    dimension_information,
    information_scatter,
    load_model,
    model_information_plane,
    split_into_windows,
    token_mutual_information,
    words_on_plane,
)
from infogeo_adapters.models import background_text, bundled_steps

SENTENCE = "The old woman gave the hungry dog a bone, and it carried the bone to the river."
WAYS: dict[str, dict[str, Any]] = {
    "k-means, k = 25": {"clusters": 25},
    "Gaussian mixture, noise 3 spreads": {"estimator": "gaussian_mixture", "noise": 3.0},
    "10 x 10 bins of 2 components": {"estimator": "binned", "bins": 10, "components": 2},
}


def show(name: str, plane: InformationPlane) -> None:
    """One row for each side of the plane: the estimates by layer, half the width of the interval, what chance gives."""
    sides = [("I(X;T)", plane.input_information, plane.input_interval, plane.input_null)]
    if plane.output_information is not None:
        sides.append(("I(T;Y)", plane.output_information, plane.output_interval, plane.output_null))
    for side, values, ends, null in sides:
        around = "" if ends is None else f"  ± {((ends[:, 1] - ends[:, 0]) / 2).mean():.2f}"
        chance = "" if null is None else f"  shuffled {null.mean():.2f}"
        print(f"  {name:<36} {side}  " + " ".join(f"{v:5.2f}" for v in values) + around + chance)


def draw(folder: Path) -> None:
    """Write the pictures as PNG."""
    from infogeo_adapters import plots

    browser = next((b for name in ("chromium", "chromium-browser", "google-chrome") if (b := shutil.which(name))), None)
    if browser is None:
        print("no pictures: found no chromium")
        return
    model = load_model()
    texts = split_into_windows(model, " ".join(background_text().split()[:1500]), max_tokens=128)
    one = token_mutual_information(model, SENTENCE, block=3, head=2, unit="bits", rng=0)
    models = {f"step {s}": load_model(f"bundled@{s}") for s in bundled_steps()}
    figures = {
        "information_plane": (plots.information_plane_figure(through_training()), 900),
        "words_on_plane": (plots.words_plane_figure(words_on_plane(model, SENTENCE, unit="bits")), 900),
        "token_information": (plots.token_information_figure(one), 1000),
        "information_scatter": (plots.information_scatter_figure(information_scatter(one, rng=0)), 900),
        "dimension_information": (
            plots.dimension_information_figure(dimension_information(models, texts, block=3)), 900,
        ),
    }
    for name, (figure, width) in figures.items():
        figure.update_layout(width=width)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
            page = Path(work) / "figure.html"
            figure.write_html(page, include_plotlyjs=True, config={"displayModeBar": False})
            subprocess.run(
                [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={work}/b",
                 "--disable-background-networking", "--hide-scrollbars", "--virtual-time-budget=6000",
                 f"--window-size={width + 16},{figure.layout.height + 16}",
                 f"--screenshot={folder / name}.png", page.as_uri()],
                capture_output=True, timeout=120, check=True,
            )
        print(f"wrote {folder / name}.png")


def through_training() -> InformationPath:
    """The plane of each checkpoint that ships, in order."""
    model = load_model()
    texts = split_into_windows(model, background_text(), max_tokens=128)
    planes = []
    for step in bundled_steps():
        then = load_model(f"bundled@{step}")
        planes.append(model_information_plane(then, texts, frequent=25, clusters=25, rng=0, name=f"step {step}"))
    return InformationPath(planes=tuple(planes))


def main(arguments: list[str] | None = None) -> int:
    """Print the tables; draw if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, help="also write the pictures into this folder")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", EstimateWarning)
    model = load_model()
    acts = capture_activations(model, split_into_windows(model, background_text(), max_tokens=128), attention=False)
    first = None
    for name, way in WAYS.items():
        start = time.perf_counter()
        plane = model_information_plane(model, acts, frequent=25, rng=0, **way)
        if first is None:
            first = plane
            print(f"the 25 most frequent tokens, n = {plane.n}, H(X) = {plane.input_entropy:.2f}, "
                  f"H(Y) = {plane.output_entropy:.2f}; layers 0 to {plane.layers[-1]}, nats")
        show(name, plane)
        print(f"  {'':<36} {time.perf_counter() - start:.1f} s")
    print("half of the texts against all, k-means, k = 25, X alone")
    for share, chosen in (("half", acts[::2]), ("all", acts)):
        plane = model_information_plane(model, chosen, target=None, frequent=25, clusters=25, rng=0)
        show(f"{share}, n = {plane.n}", plane)
    print("through training, k-means, k = 25")
    for plane in through_training().planes:
        show(plane.name, plane)
    if options.pictures is not None:
        draw(options.pictures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
