"""The code in README.md and docs/ runs, page by page, and the pages hang together."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import io
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import shared_backgrounds
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BY_NAME = [pytest.param(page, id=page.name) for page in PAGES]
SYBIL = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()])
WITHOUT_CODE = {"api.md", "changelog.md", "index.md", "bundled_model.md"}
NEEDS = {"clustering.md": "geomstats"}


@pytest.mark.parametrize("page", BY_NAME)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """All blocks of one page, in order, in one namespace, in an empty folder; a text block after one is its output."""
    if page.name in NEEDS and importlib.util.find_spec(NEEDS[page.name]) is None:
        pytest.skip(f"the page needs the extra: pip install 'infogeo[{NEEDS[page.name]}]'")
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    examples = list(SYBIL.parse(page).examples())
    assert examples or page.name in WITHOUT_CODE, f"{page.name} has no Python block"
    installed = importlib.util.find_spec("transformers") is not None
    for example in examples:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), shared_backgrounds() if installed else contextlib.nullcontext():
            example.evaluate()
        shown = re.match(r"(?:```)?\s*```text\n(.*?)```", text[example.region.end :], re.S)
        if shown:
            assert printed.getvalue() == shown[1]


def commands(page: Path) -> list[str]:
    """Lines of shell blocks that call infogeo, continuation lines joined."""
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.strip().removeprefix("$ ") for line in lines if re.match(r"\s*(\$ )?infogeo ", line)]


COMMANDS = [pytest.param(line, id=f"{page.name}: {line}") for page in PAGES for line in commands(page)]


@pytest.mark.parametrize("line", COMMANDS)
def test_options_in_shell_blocks_exist(line):
    """Each command shown is one that the command line knows, with options it has; only its help is asked for."""
    from infogeo_adapters.cli import cli

    words = shlex.split(line, comments=True)[1:]
    if words[0].startswith("-"):
        return
    command = cli.commands[words[0]]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.partition("=")[0] for word in words[1:] if word.startswith("-")}
    assert used <= known | {"--help"}, f"unknown: {sorted(used - known)}"
    assert CliRunner().invoke(cli, [words[0], "--help"]).exit_code == 0


@pytest.mark.parametrize("page", BY_NAME)
def test_links_to_files_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_pages_are_in_the_table_of_contents():
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in PAGES[1:]:
        assert page.stem == "index" or re.search(rf"^{page.stem}$", index, re.M), f"index.md lacks {page.stem}"


def test_errors_page_names_every_error_class():
    from infogeo import errors

    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for name, thing in vars(errors).items():
        if isinstance(thing, type) and issubclass(thing, errors.InfogeoError):
            assert f"`{name}`" in page, f"docs/errors.md does not mention {name}"


def test_messages_that_the_errors_page_quotes_exist():
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^`(.+)`\n: ", page, re.M)
    assert len(quoted) > 20
    literals = [
        node.value
        for folder in ("infogeo", "adapters")
        for file in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    for words in quoted:
        assert any(words in literal for literal in literals), f"no message holds {words!r}"


def test_make_commands_that_the_pages_name_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        named = set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.M))
        assert named <= targets, f"{page.name}: {named - targets}"
