"""Configuration of the documentation."""

import configparser
import re
import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "adapters")]

parser = configparser.ConfigParser()
parser.read(ROOT / "setup.cfg", encoding="utf-8")

project = "infogeo"
author = copyright = parser["metadata"]["author"]
release = version = parser["metadata"]["version"]

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]

autosummary_generate = True
autosummary_imported_members = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

html_theme = "furo"
html_title = f"infogeo {release}"
html_static_path = ["_static"]
html_css_files = ["formula.css"]
html_math_renderer = "mathml"


def inline_math(self, node):
    """A formula in running text, as MathML, which browsers show without a script from the network."""
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def block_math(self, node):
    """A formula on a line of its own, as MathML."""
    self.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def keep_initials(app, what, name, obj, options, lines):
    """Keep docutils from reading a reference that begins with an initial (C. Atkinson) as item C of a list."""
    lines[:] = [re.sub(r"^(\s*\.\. \[\S+\] [A-Z])\. ", r"\1\\. ", line) for line in lines]


def setup(app):
    """Tell Sphinx of both."""
    app.connect("autodoc-process-docstring", keep_initials, priority=900)
    app.add_html_math_renderer("mathml", (inline_math, None), (block_math, None))
