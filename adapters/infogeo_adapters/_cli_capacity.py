"""The command ``infogeo capacity``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infogeo_adapters._cli_input import given, read_file, rephrase
from infogeo_adapters._cli_options import seed_option
from infogeo_adapters._cli_output import open_model, print_json, print_table, tell, teller
from infogeo_adapters._require import require

if TYPE_CHECKING:
    from infogeo.capacity.results import Part
    from infogeo_adapters.capacity import CapacityTable

VIEWS = ("linear_gaussian", "jacobian", "attention", "readout")
PARTS: tuple[Part, ...] = ("block", "attention", "query", "key", "value", "feed_forward")
SHOWN = ("block", "part", "head", "view", "capacity", "lower", "upper", "rate", "utilization", "unit", "n")
PHRASES = (("or project with components=", "or project with --components"), ("components=", "--components"))


class Noise(click.ParamType):  # type: ignore[type-arg]
    """Decibels, or the name of a number format."""

    name = "noise"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A float or a name; what names there are is known to the library."""
        try:
            return float(value)
        except ValueError:
            return str(value)


@click.command()
@click.argument("text", required=False)
@click.option("--file", "-f", metavar="FILE", type=click.Path(allow_dash=True),
              help="Read the text from a file in UTF-8; - is stdin.")
@click.option("--background", is_flag=True,
              help="Measure on the sample that ships with infogeo, 6,000 words of English prose, in place of a text.")
@click.option("--model", "-m", metavar="MODEL",
              help="A folder, a name on the hub, 'bundled' (the default) or 'minilm'.")
@click.option("--view", "-v", "views", multiple=True, type=click.Choice(VIEWS),
              help="What channel a layer is taken for; may be repeated. Default: all.")
@click.option("--part", "-p", "parts", multiple=True, type=click.Choice(PARTS),
              help="Parts of a block, for linear_gaussian and jacobian; may be repeated. Default: all.")
@click.option("--block", "-b", "blocks", multiple=True, type=int, metavar="BLOCK",
              help="Counted from 1; may be repeated. Default: all.")
@click.option("--noise", type=Noise(), default=20.0, show_default=True, metavar="DB|FORMAT",
              help="The stated noise: signal-to-noise ratio in decibels, or a number format (bfloat16, float16, ...).")
@click.option("--power", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
              help="Power of the input allowed, as a multiple of that of the actual inputs.")
@click.option("--window", type=click.IntRange(min=3), default=32, show_default=True,
              help="Tokens in a window, into which the text is cut.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=8192, show_default=True,
              help="Of a longer text, windows spread evenly over it are measured.")
@click.option("--components", type=click.IntRange(min=1),
              help="Leading principal components for linear_gaussian; fewer need less text.")
@click.option("--permutations", type=click.IntRange(min=0), default=0, show_default=True,
              help="Of the null of linear_gaussian.")
@click.option("--units", type=click.Choice(("nats", "bits")), default="bits", show_default=True)
@click.option("--checkpoint", metavar="FILE", type=click.Path(),
              help="Keep each block that is done in a file, and go on from it.")
@click.option("--out", "-o", metavar="PATH", type=click.Path(),
              help="Write the table and its pictures: FILE.html, FILE.csv, FILE.json, or a folder with all three.")
@seed_option
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON, with all its details.")
@click.option("--allow-pickle", is_flag=True,
              help="Load weights that are pickled. A pickle can run any code: only for folders you trust.")
@click.option("--quiet", "-q", is_flag=True, help="No progress on stderr.")
def capacity(
    text: str | None, file: str | None, background: bool, out: str | None, units: Any, as_json: bool, quiet: bool,
    **options: Any,
) -> int:
    """Measure every block, part and head of a model as an information channel, on TEXT.

    Each row has its view, its capacity with a 95 % interval, the rate at the actual inputs, and their quotient, the
    utilization. A model computes without noise, so no capacity is its own: it belongs to the noise and the input
    constraint, which are told on stderr and stand in each row of the JSON, CSV and HTML.

    \b
    Views:
      linear_gaussian  linear fit of output to input; its residual, or the stated noise, is the noise
      jacobian         a part around each token, under the stated noise
      attention        a head as the channel from query to key
      readout          from context to the token predicted after each block

    One sentence is enough for the last three. The first needs thousands of tokens: give a long text with --file, or
    measure the model on the sample that ships with infogeo with --background.

    \b
    Examples:
      infogeo capacity "The dog chased the cat because it was hungry." --view attention
      infogeo capacity --background --out capacity.html
      infogeo capacity --file story.txt --model minilm --view linear_gaussian --part block --json
    """
    from infogeo_adapters._capacity_views import read_noise
    from infogeo_adapters.capacity import measure_capacity
    from infogeo_adapters.files import check_graph_file
    from infogeo_adapters.progress import progress_bar

    whole = _text(text, file, background)
    views = options["views"] or VIEWS
    for name, needs in (("parts", ("linear_gaussian", "jacobian")), ("noise", ("linear_gaussian", "jacobian")),
                        ("power", ("linear_gaussian", "jacobian")), ("components", ("linear_gaussian",)),
                        ("permutations", ("linear_gaussian",))):
        if given(name) and not {*needs} & {*views}:
            option = "--part" if name == "parts" else f"--{name}"
            raise click.UsageError(f"{option} goes with --view {' or '.join(needs)}")
    if out is not None:
        _check_out(out)
    if options["checkpoint"] is not None:
        check_graph_file(options["checkpoint"], format="json")  # whether a file can be written there
    read_noise(options["noise"])
    say = teller(quiet)
    model = open_model(options, say)
    say("measuring the capacity of its blocks")
    with warnings.catch_warnings(), progress_bar("capacity", unit="blocks", file=_nowhere() if quiet else None) as show:
        warnings.simplefilter("ignore")  # what the warnings say is in the notes
        table = measure_capacity(
            model, whole, views=views, parts=options["parts"] or PARTS, blocks=options["blocks"] or None,
            noise=options["noise"], power=options["power"], window=options["window"],
            max_tokens=options["max_tokens"], components=options["components"], permutations=options["permutations"],
            rng=options["seed"], unit=units, checkpoint=options["checkpoint"], progress=show,
        )
    if out is not None:
        _write(table, out)
        say(f"wrote {out}")
    if as_json:
        print_json(table.to_dict())
    elif out is not None:
        click.echo(out)
    else:
        columns, rows = table.rows()
        places = [columns.index(name) for name in SHOWN]
        print_table(SHOWN, [[row[i] for i in places] for row in rows])
        for assumption in table.assumptions():
            tell(assumption)
    for note in table.notes:
        tell(_rephrased(note))
    return 0


def _nowhere() -> Any:
    import io

    return io.StringIO()


def _rephrased(note: str) -> str:
    for python, option in PHRASES:
        note = note.replace(python, option)
    return rephrase(note)


def _text(text: str | None, file: str | None, background: bool) -> str:
    """The text of the command, from exactly one of three places."""
    from infogeo_adapters.transformers.alignment import check_text

    places = [name for name, found in (("TEXT", text), ("--file", file), ("--background", background or None))
              if found is not None]
    if len(places) != 1:
        how = f"{' and '.join(places)} were given" if places else "none was given"
        raise click.UsageError(f"give one of TEXT, --file FILE and --background; {how}")
    if text is not None:
        return check_text(text)
    if file is not None:
        return check_text(read_file(file))
    from infogeo_adapters.models import background_text

    return background_text()


def _check_out(out: str) -> None:
    """Refuse what cannot be written before a model is loaded."""
    from infogeo_adapters.files import check_graph_file
    from infogeo_adapters.report.folder import check_output_folder

    ending = Path(out).suffix.lower()
    if ending in (".html", ""):
        require("plotly", extra="plots", caller="infogeo capacity")
    if ending in (".html", ".csv", ".json"):
        check_graph_file(out, format="json")
    elif ending:
        raise click.UsageError(f"--out {out}: the ending {ending} is none of .html, .csv, .json; a folder has none")
    else:
        check_output_folder(out)


def _write(table: CapacityTable, out: str) -> None:
    from infogeo_adapters.files import write_atomically
    from infogeo_adapters.report.folder import whole_folder
    from infogeo_adapters.tables import write_table

    def html() -> bytes:
        from infogeo_adapters.plots.capacity import capacity_page

        return capacity_page(table).encode("utf-8")

    def json_text() -> bytes:
        return (table.to_json(indent=1) + "\n").encode("utf-8")

    ending = Path(out).suffix.lower()
    if ending == ".html":
        write_atomically(out, html())
    elif ending == ".csv":
        write_table(table, out)
    elif ending == ".json":
        write_atomically(out, json_text())
    else:
        with whole_folder(out) as folder:
            write_atomically(folder / "capacity.html", html())
            write_table(table, folder / "capacity.csv")
            write_atomically(folder / "capacity.json", json_text())
