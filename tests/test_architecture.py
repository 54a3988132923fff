"""The rules of the layout: what may import what, what is packaged, pinned and documented."""

from __future__ import annotations

import ast
import configparser
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from numpydoc.docscrape import FunctionDoc
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"infogeo": ROOT, "infogeo_adapters": ROOT / "adapters"}
MATHEMATICS_MAY_IMPORT = {"infogeo", "numpy", "scipy", "array_api_compat"}
HEAVY = {
    "torch", "transformers", "tokenizers", "safetensors", "sentence_transformers", "networkx", "pandas", "pydot",
    "plotly", "jinja2", "matplotlib", "geomstats", "sklearn", "dask", "conllu",
}  # fmt: skip


def config() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def imported(path: Path) -> Iterator[tuple[str, bool]]:
    """Each top-level package a file imports, and whether at run time (not under ``if TYPE_CHECKING``)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} uses a relative import"
            names = [node.module or ""]
        else:
            continue
        yield from ((name.partition(".")[0], id(node) not in for_types) for name in names)


def python_files(package: str) -> list[Path]:
    files = sorted((PACKAGES[package] / package).rglob("*.py"))
    assert len(files) > 5, f"found no sources of {package}; has it moved?"
    return files


@pytest.mark.parametrize("path", python_files("infogeo"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_mathematics_imports_only_numpy_and_scipy(path):
    for name, at_run_time in imported(path):
        assert name != "infogeo_adapters", f"{path} imports infogeo_adapters; the dependency goes the other way"
        inside_function = name == "pandas" and path.name == "results.py"  # to_frame, imported when called
        allowed = name in MATHEMATICS_MAY_IMPORT or name in sys.stdlib_module_names or inside_function
        assert allowed or not at_run_time, f"{path} imports {name}; that belongs into infogeo_adapters"


def test_the_import_reader_sees_hidden_imports(tmp_path):
    file = tmp_path / "module.py"
    file.write_text("if TYPE_CHECKING:\n    import pandas\ndef f():\n    from torch.nn import Linear\n")
    assert set(imported(file)) == {("pandas", False), ("torch", True)}


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_nothing_heavy(package):
    code = f"import sys, {package}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    path = ":".join(str(folder) for folder in PACKAGES.values())
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )
    loaded = set(done.stdout.split())
    assert package in loaded
    assert not loaded & HEAVY
    if package == "infogeo":
        assert "infogeo_adapters" not in loaded


def test_packages_in_setup_cfg_are_those_on_disk():
    listed = set(lines(config()["options"]["packages"]))
    on_disk = {
        ".".join(file.parent.relative_to(base).parts)
        for package, base in PACKAGES.items()
        for file in (base / package).rglob("__init__.py")
    }
    assert listed == on_disk
    assert not (ROOT / "adapters" / "__init__.py").exists(), "adapters/ is a folder, not a package: the name is taken"


def test_every_folder_with_python_files_is_a_package():
    for package in PACKAGES:
        for file in python_files(package):
            assert (file.parent / "__init__.py").exists(), f"{file.parent} has modules but no __init__.py"


def requirements() -> dict[str, list[Requirement]]:
    parser = config()
    groups = {"base": parser["options"]["install_requires"], **parser["options.extras_require"]}
    return {group: [Requirement(line) for line in lines(text)] for group, text in groups.items()}


def pins() -> dict[str, str]:
    found = {}
    for line in lines((ROOT / "constraints.txt").read_text(encoding="utf-8")):
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][0-9A-Za-z.]*)", line)
        assert match, f"constraints.txt: {line!r} is not a plain pin name==version (no local versions, no addresses)"
        found[canonicalize_name(match[1])] = match[2]
    return found


def test_every_requirement_is_pinned_to_a_version_it_allows():
    pinned = pins()
    for group, wanted in requirements().items():
        for requirement in wanted:
            name = canonicalize_name(requirement.name)
            if name == "infogeo":
                continue
            assert name in pinned, f"[{group}] {name} has no pin in constraints.txt"
            assert requirement.specifier.contains(pinned[name]), f"[{group}] {requirement} forbids {pinned[name]}"


def test_what_the_requirements_pull_in_is_pinned_too():
    pinned, queue, seen = pins(), [r.name for group in requirements().values() for r in group], {"infogeo"}
    while queue:
        name = canonicalize_name(queue.pop())
        if name in seen:
            continue
        seen.add(name)
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # an extra that is not installed here
        assert name in pinned or name.startswith(("nvidia-", "cuda-")) or name in ("triton", "setuptools"), name
        for text in needs:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                queue.append(requirement.name)
    assert len(seen) > 30


def test_numpy_is_held_back_by_the_geomstats_extra_alone():
    pinned = pins()
    assert pinned["torch"] == "2.13.0"
    assert tuple(map(int, pinned["numpy"].split(".")[:2])) < (2, 4)
    for group, wanted in requirements().items():
        for requirement in wanted:
            if requirement.name == "numpy":
                assert requirement.specifier.contains("2.999") is (group != "geomstats"), f"[{group}] {requirement}"


def test_all_is_every_extra_but_the_development_tools():
    (everything,) = requirements()["all"]
    assert everything.extras == set(requirements()) - {"base", "all", "test", "docs"}


def test_extras_named_in_error_messages_exist():
    groups, found = set(requirements()), set()
    for package in PACKAGES:
        for file in python_files(package):
            text = file.read_text(encoding="utf-8")
            listed = ",".join(re.findall(r"infogeo\[([a-z, ]+)\]", text)).replace(" ", "")
            found |= set(filter(None, listed.split(",")))
            found |= set(re.findall(r"extra=\"([a-z]+)\"", text))
    assert found, "no message names an extra; has the wording changed?"
    assert found <= groups


def public_names() -> Iterator[tuple[str, str, object]]:
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in dir(module):
            thing = getattr(module, name)
            ours = str(getattr(thing, "__module__", type(thing).__module__)).startswith("infogeo")
            if not name.startswith("_") and ours and not isinstance(thing, ModuleType):
                yield package, name, thing


PUBLIC = [pytest.param(*entry, id=f"{entry[0]}.{entry[1]}") for entry in public_names()]


def test_there_is_a_public_surface():
    assert len(PUBLIC) > 30


@pytest.mark.parametrize(("package", "name", "thing"), PUBLIC)
def test_public_names_are_documented(package, name, thing):
    doc = inspect.getdoc(thing)
    assert doc, f"{package}.{name} has no docstring"
    assert doc.splitlines()[0].rstrip().endswith((".", ":")) or len(doc.splitlines()) > 1, doc
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert re.search(rf"\b{name}\b", page), f"docs/api.md does not list {package}.{name}"


FUNCTIONS = [p for p in PUBLIC if inspect.isfunction(p.values[2])]


@pytest.mark.parametrize(("package", "name", "thing"), FUNCTIONS)
def test_public_functions_have_numpydoc_sections(package, name, thing):
    doc = FunctionDoc(thing)
    described = {n.strip().lstrip("*") for entry in doc["Parameters"] for n in entry.name.split(",")}
    parameters = set(inspect.signature(thing).parameters)
    assert described == parameters, f"{package}.{name}: described {sorted(described)}, takes {sorted(parameters)}"
    returns = inspect.signature(thing).return_annotation
    said = returns in (None, "None") or doc["Returns"] or doc["Yields"]
    assert said, f"{package}.{name} does not say what it returns"


CLASSES_WITH_METHODS = [p for p in PUBLIC if inspect.isclass(p.values[2])]


@pytest.mark.parametrize(("package", "name", "thing"), CLASSES_WITH_METHODS)
def test_public_methods_are_documented(package, name, thing):
    for attribute, member in inspect.getmembers(thing):
        own = getattr(member, "__module__", "") or ""
        if not attribute.startswith("_") and own.startswith("infogeo") and callable(member):
            assert inspect.getdoc(member), f"{package}.{name}.{attribute} has no docstring"


def test_every_module_says_what_it_is():
    for package in PACKAGES:
        for file in python_files(package):
            doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
            assert doc or not file.read_text(encoding="utf-8").strip(), f"{file} has no docstring"


def test_no_path_of_one_machine_and_no_index_host_is_in_the_project():
    secret_of_a_machine = re.compile(r"(?<![\w.])/(?:work|home|root|tmp|opt)/\w|index-url|find-links|pythonhosted")
    files = [ROOT / name for name in ("setup.cfg", "pyproject.toml", "constraints.txt", "Makefile")]
    files += ROOT.glob("*.md")
    for folder in ("infogeo", "adapters", "docs", "benchmarks"):
        files += [f for f in (ROOT / folder).rglob("*") if f.suffix in {".py", ".md", ".cfg", ".json", ".j2", ".html"}]
    for file in files:
        if "_build" in file.parts or file.name == "tokenizer.json":
            continue
        found = secret_of_a_machine.search(file.read_text(encoding="utf-8"))
        assert not found, f"{file.relative_to(ROOT)} holds {found[0]!r}"


SLOW_PARTS = ("scipy.stats", "scipy.optimize", "scipy.sparse", "scipy.linalg", "scipy.spatial", "scipy.special")
"""What makes an import slow: these are imported where they are used. benchmarks/import_time.py holds the seconds."""


def test_import_of_the_mathematics_leaves_the_slow_parts_for_later():
    code = "import sys, infogeo; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)}
    )
    loaded = set(done.stdout.split())
    assert "infogeo.pairwise" in loaded
    assert not loaded & set(SLOW_PARTS)



def test_no_file_of_a_package_is_hidden_from_git():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout; run the tests in a clone")
    files = [str(p.relative_to(ROOT)) for top in ("infogeo", "adapters", "tests", "docs")
             for p in (ROOT / top).rglob("*") if p.is_file() and p.suffix in {".py", ".j2", ".css", ".json", ".txt"}]
    made = [f for f in files if not ("__pycache__" in f or f.startswith(("docs/_build", "docs/api/generated")))]
    found = subprocess.run(
        ["git", "check-ignore", "--stdin"], input="\n".join(made), capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert found.returncode == 1, f"git ignores files that the packages need: {found.stdout}"


@pytest.mark.parametrize("package", PACKAGES)
def test_a_star_import_has_every_public_name_and_no_module_by_the_way(package):
    module, space = importlib.import_module(package), {}
    exec(f"from {package} import *", space)  # a function cannot import all names
    assert set(module._HOME) <= set(space)
    assert {name for name, value in space.items() if isinstance(value, ModuleType)} <= {"dispatch"}
    eager = {name for name in ("Gaussian", "fisher_rao_distance", "WordGraph", "dispatch") if package == "infogeo"}
    assert eager <= set(space)
