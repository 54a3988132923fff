"""Build the wheel and the sdist, look into them, install them in new environments outside the checkout, test there.

Run from the checkout with the Python of its environment (it needs the package ``build``)::

    .venv/bin/python .ci/check_wheel.py

Nothing is written into the checkout. The tests run on the installed package from a copy of ``tests/``; the two that
read the checkout itself are left out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    "infogeo", "adapters", "tests", "docs", "benchmarks", ".ci",
    "setup.cfg", "pyproject.toml", "constraints.txt", "Makefile", "MANIFEST.in",
    "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE",
)  # fmt: skip
READ_THE_CHECKOUT = ("test_architecture.py", "test_docs.py")
WHERE = """
import infogeo, infogeo_adapters, pathlib, sys
for package in (infogeo, infogeo_adapters):
    path = pathlib.Path(package.__file__).resolve()
    if "site-packages" not in path.parts:
        sys.exit(f"{package.__name__} comes from {path}, not from the installed wheel")
"""


def say(what: str) -> None:
    """Print the next step at once."""
    print(f"== wheel: {what}", flush=True)


def run(*command: str | Path, cwd: Path, quiet: bool = False, **environment: str) -> None:
    """Run a command; if it fails, end with its exit status. A quiet one shows its output only then."""
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} if quiet else {}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env={**inherited, **environment}, check=False, **streams)
    if done.returncode:
        print(done.stdout or "", flush=True)
        sys.exit(f"wheel check: exit status {done.returncode} from: {' '.join(map(str, command))}")


def build(work: Path) -> tuple[Path, Path]:
    """The wheel and the sdist, built from a copy, so that no stale file of the checkout can slip in."""
    source = work / "source"
    source.mkdir()
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info", "_build", "generated", ".*_cache")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=skip)
        else:
            shutil.copy2(ROOT / name, source / name)
    run(sys.executable, "-m", "build", "--outdir", work / "dist", source, cwd=work, quiet=True)
    (wheel,) = (work / "dist").glob("*.whl")
    (sdist,) = (work / "dist").glob("*.tar.gz")
    return wheel, sdist


def check_contents(wheel: Path, sdist: Path) -> None:
    """The wheel holds exactly the files of the two packages; the sdist holds the tests and documents too."""
    wanted = {
        path.relative_to(base).as_posix()
        for base, package in ((ROOT, "infogeo"), (ROOT / "adapters", "infogeo_adapters"))
        for path in (base / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    for what, names in (("is not in the wheel", wanted - found), ("should not be in the wheel", found - wanted)):
        if names:
            sys.exit(f"wheel check: {what}: {', '.join(sorted(names))} (see [options.package_data] in setup.cfg)")
    needed = (
        "infogeo/py.typed", "infogeo_adapters/py.typed", "infogeo_adapters/models/bundled/model.safetensors",
        "infogeo_adapters/models/bundled/tokenizer.json", "infogeo_adapters/models/background.txt",
    )  # fmt: skip
    missing = [name for name in needed if name not in found]
    missing += [] if any(n.startswith("infogeo_adapters/report/templates/") for n in found) else ["report templates"]
    with tarfile.open(sdist) as archive:
        top = {name.partition("/")[2] for name in archive.getnames()}
    in_sdist = {"tests/test_architecture.py", "docs/index.md", "constraints.txt", "LICENSE"}
    missing += [f"{name} (sdist)" for name in sorted(in_sdist - top)]
    if missing:
        sys.exit(f"wheel check: missing: {', '.join(missing)}")
    say(f"{len(found)} files, {wheel.stat().st_size / 1e6:.1f} MB")


def environment(folder: Path, *requirements: str) -> Path:
    """A new environment with the requirements, under the constraints; its folder of programs."""
    venv.create(folder, with_pip=True)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = (programs / "python", "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--constraint", ROOT / "constraints.txt", *requirements, cwd=folder)
    run(*pip, "check", cwd=folder)
    return programs


def check_without_extras(wheel: Path, work: Path) -> None:
    """Without extras the mathematics imports, the help shows, and the report names the extra it needs."""
    programs = environment(work / "bare", str(wheel))
    run(programs / "python", "-c", WHERE, cwd=work)
    run(programs / "infogeo", "--help", cwd=work)
    command = [programs / "infogeo", "report", "A short sentence.", "--out", "bare-report"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode != 2 or "pip install" not in done.stderr or "infogeo[" not in done.stderr:
        sys.exit(f"wheel check: without extras the report should name the extra; exit {done.returncode}: {done.stderr}")


def check_with_extras(wheel: Path, work: Path) -> None:
    """With all extras the tests pass on the installed packages, and the command writes a report."""
    programs = environment(work / "full", f"{wheel}[all,test]")
    copy = work / "copy"
    shutil.copytree(ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__", *READ_THE_CHECKOUT))
    shutil.copy2(ROOT / "setup.cfg", copy)
    python = programs / "python"
    run(python, "-c", WHERE, cwd=copy)
    options = ("-c", "setup.cfg", "-o", "pythonpath=", "-o", "testpaths=tests", "-p", "no:cacheprovider",
               "--numprocesses", "auto", "--maxprocesses", "4", "--dist", "loadfile")
    run(python, "-m", "pytest", "-q", "-m", "not slow and not exhaustive", *options, cwd=copy, HF_HUB_OFFLINE="1",
        OMP_NUM_THREADS="1")
    run(programs / "infogeo", "report", "A short sentence about rivers.", "--out", "page", cwd=copy, HF_HUB_OFFLINE="1")
    if not (copy / "page" / "index.html").stat().st_size:
        sys.exit("wheel check: the installed command wrote an empty page")


def main() -> None:
    """All steps, in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="infogeo-wheel-") as folder:
        work = Path(folder).resolve()
        say("building")
        wheel, sdist = build(work)
        check_contents(wheel, sdist)
        say("installing without extras")
        check_without_extras(wheel, work)
        say("installing with all extras and running the tests")
        check_with_extras(wheel, work)
        say("passed")


if __name__ == "__main__":
    main()
