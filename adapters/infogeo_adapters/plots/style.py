"""What all figures share: colors, fonts, sizes, and labels that cannot be taken for markup."""

from __future__ import annotations

import html
import math
import unicodedata
from typing import TYPE_CHECKING, Any

from infogeo.errors import MissingDependencyError

if TYPE_CHECKING:
    import plotly.graph_objects as go

INK = "#1b1f24"
MUTED = "#59636e"
GRID = "#d8dee4"
BLUE = "#0b5cad"
GREEN = "#00735c"
ORANGE = "#c44900"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'Liberation Sans', Arial, sans-serif"
FONT_SIZE = 13
SMALL = 12

CLOSE = ((0.0, "#f5f8fc"), (0.25, "#c2d7ec"), (0.5, "#7fadd6"), (0.75, "#3478b5"), (1.0, "#0a2f5c"))
"""White to dark blue, even in lightness, so that it reads without color vision and in print; dark is close or much."""
FAR = tuple((1.0 - place, color) for place, color in reversed(CLOSE))
"""The same colors the other way round: a small number is dark."""
DIVERGING = ((0.0, "#b35806"), (0.25, "#f1a340"), (0.5, "#f7f7f7"), (0.75, "#998ec3"), (1.0, "#542788"))
"""Orange to purple, told apart by every kind of color vision."""

LABEL_LIMIT = 18


def graph_objects(caller: str) -> Any:
    """The module ``plotly.graph_objects``, or an error that names the extra."""
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise MissingDependencyError(
            f'{caller} needs plotly; install it with: pip install "infogeo[plots]"'
        ) from error
    return go


def visible(text: str, *, keep: str = "") -> str:
    """The text with control characters, line ends and direction marks replaced by signs one can see.

    A line end becomes ``↵``, other controls 0 to 31 the control pictures of Unicode (NUL is ``␀``), others their number
    in brackets; characters in ``keep`` stay.

    Examples
    --------
    >>> visible("a" + chr(0) + "b" + chr(10) + chr(0x202E))
    'a␀b↵⟨202E⟩'
    """
    shown = []
    for character in text:
        code = ord(character)
        if character in keep:
            shown.append(character)
        elif character == "\n":
            shown.append("↵")  # the control picture is a box in many fonts
        elif code < 32:
            shown.append(chr(0x2400 + code))
        elif code == 127:
            shown.append("␡")
        elif 0xD800 <= code <= 0xDFFF or (unicodedata.category(character) in ("Cc", "Cf") and code != 0x200D):
            shown.append(f"⟨{code:04X}⟩")
        else:
            shown.append(character)
    return "".join(shown)


def shorten(text: str, limit: int = LABEL_LIMIT) -> str:
    """The text, cut with an ellipsis where it is longer than ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def label(text: str, limit: int | None = LABEL_LIMIT) -> str:
    """The text as plotly shows it letter by letter.

    Plotly reads ``<b>``, ``<a href=...>`` and entities in every label and hover text as markup; here they are escaped,
    so that a word is shown as it stands.

    Examples
    --------
    >>> label("<b>no</b>")
    '&lt;b&gt;no&lt;/b&gt;'
    """
    shown = visible(text)
    return html.escape(shown if limit is None else shorten(shown, limit), quote=False)


def labels(words: tuple[str, ...], limit: int | None = LABEL_LIMIT) -> list[str]:
    """:func:`label` of each word."""
    return [label(word, limit) for word in words]


def figure(
    traces: list[Any], *, title: str, summary: str, height: int, min_width: int, max_width: int | None, caller: str,
    margin: dict[str, int] | None = None, **layout: Any,
) -> go.Figure:
    """A figure in the house style.

    ``layout.meta`` carries the title in plain letters, a sentence that says what is seen (for screen readers), and
    the widths in pixels between which the figure reads well.
    """
    go = graph_objects(caller)
    template = go.layout.Template(
        layout={
            "font": {"family": FONT, "size": FONT_SIZE, "color": INK},
            "paper_bgcolor": "#ffffff", "plot_bgcolor": "#ffffff",
            "hoverlabel": {"font": {"family": FONT, "size": FONT_SIZE, "color": INK}, "bgcolor": "#ffffff",
                           "bordercolor": MUTED, "align": "left"},
            "xaxis": {"automargin": True, "gridcolor": GRID, "linecolor": MUTED, "zeroline": False,
                      "title": {"standoff": 12}},
            "yaxis": {"automargin": True, "gridcolor": GRID, "linecolor": MUTED, "zeroline": False,
                      "title": {"standoff": 12}},
        }
    )
    return go.Figure(
        data=traces,
        layout={
            "template": template,
            "title": {"text": label(title, None), "x": 0, "xref": "paper", "font": {"size": 16}},
            "height": height,
            "margin": {"l": 10, "r": 10, "t": 60, "b": 10, **(margin or {})},
            "meta": {"title": title, "summary": summary, "min_width": min_width, "max_width": max_width},
            "dragmode": False,
            **layout,
        },
    )


NAMES = {
    "fisher_rao": "Fisher–Rao", "bures_wasserstein": "Bures–Wasserstein", "calvo_oller": "Calvo–Oller", "kl_": "KL ",
    "jeffreys": "Jeffreys", "hellinger": "Hellinger", "jensen_shannon": "Jensen–Shannon", "renyi": "Rényi",
    "bhattacharyya": "Bhattacharyya", "euclidean": "Euclidean", "mahalanobis": "Mahalanobis",
}


def readable(name: str) -> str:
    """The name of a function as people write it.

    Examples
    --------
    >>> readable("fisher_rao_distance"), readable("component_normals")
    ('Fisher–Rao distance', 'component normals')
    """
    for code, written in NAMES.items():
        name = name.replace(code, written)
    return name.replace("_", " ")


def capital(text: str) -> str:
    """The text with its first letter large."""
    return text[:1].upper() + text[1:]


def significant(value: float, digits: int = 4) -> float:
    """The value rounded to so many significant digits, which keeps pages small."""
    return float(f"{value:.{digits}g}")


def nice_ticks(top: float, most: int) -> list[float]:
    """Zero and the multiples of a round number up to a positive value, at most so many of them.

    Examples
    --------
    >>> nice_ticks(7.03, 4), nice_ticks(0.13, 3)
    ([0.0, 2.0, 4.0, 6.0], [0.0, 0.05, 0.1])
    """
    power = 10.0 ** math.floor(math.log10(top / most))
    step = next(m * power for m in (1, 2, 2.5, 5, 10, 20) if m * power * most >= top)
    return [significant(i * step) for i in range(int(top / step + 1e-9) + 1)]


def plural(count: int, noun: str) -> str:
    """The count with its noun.

    Examples
    --------
    >>> plural(1, "word"), plural(2, "word")
    ('1 word', '2 words')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
