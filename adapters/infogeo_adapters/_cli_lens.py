"""The command ``infogeo lens``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infogeo_adapters._cli_input import given, read_text
from infogeo_adapters._cli_options import computing_options
from infogeo_adapters._cli_output import open_model, print_aligned, print_json, tell, teller
from infogeo_adapters._require import require

if TYPE_CHECKING:
    from infogeo.entropy_profile import EntropyProfile, EntropyUnit

STAGES = (
    "embedding", "attention_output", "resid_mid", "cross_attention_output", "resid_cross", "feed_forward_output",
    "resid_post",
)
TOP_K = 5
"""Outcomes told on a page, unless --top-k says how many."""
WIDTH = 110
"""Columns up to which a table of tokens is printed; a longer text is printed place by place."""


class StageNames(click.ParamType):  # type: ignore[type-arg]  # not generic in all versions of click
    """Names of stages, parted by commas, or ``all``."""

    name = "stages"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The names, or a usage error that lists those there are."""
        if not isinstance(value, str):
            return tuple(value)
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
        wrong = [name for name in names if name not in STAGES and name != "all"]
        if wrong or not names or ("all" in names and len(names) > 1):
            found = repr(wrong[0]) if wrong else repr(value)
            self.fail(f"{found}: give all, or one or more of {', '.join(STAGES)}, parted by commas", param, ctx)
        return names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Names that go on from the last comma."""
        from click.shell_completion import CompletionItem

        before, comma, last = incomplete.rpartition(",")
        names = STAGES if comma else ("all", *STAGES)
        return [CompletionItem(f"{before}{comma}{name}") for name in names if name.startswith(last)]


@click.command()
@click.argument("text", required=False)
@click.option("--file", "-f", metavar="FILE", type=click.Path(allow_dash=True),
              help="Read the text from a file in UTF-8; - is stdin. A text longer than the context is read in windows.")
@computing_options
@click.option("--stages", "-s", type=StageNames(), default="resid_post", show_default=True, metavar="NAME,...|all",
              help="Where the model is read: resid_post (after each block), resid_mid (after attention), "
              "attention_output, feed_forward_output, and in decoders with cross attention resid_cross and "
              "cross_attention_output.")
@click.option("--renyi", "orders", multiple=True, type=click.FloatRange(min=0), metavar="ORDER",
              help="Also a Rényi entropy, of an order from 0 to inf; may be repeated.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), metavar="P",
              help="Also the fewest tokens that together have at least this probability.")
@click.option("--top-k", type=click.IntRange(min=1), metavar="K",
              help="Most probable tokens kept of each prediction; all are in JSON and on a page, the first in CSV and "
              f"Parquet. Default: 1, for a page {TOP_K}.")
@click.option("--units", "-u", type=click.Choice(("nats", "bits", "normalized")), default="nats", show_default=True,
              help="Of what is printed and drawn; normalized entropies are shares of the largest possible, and "
              "divergences then stay in nats. Files and JSON are in nats.")
@click.option("--used-only", is_flag=True, help="Leave out rows of the head that belong to no token.")
@click.option("--tuned-lens", metavar="FILE", type=click.Path(),
              help="Read with a tuned lens that was fitted to this model and saved.")
@click.option("--target", metavar="TEXT",
              help="Of an encoder-decoder model, what the decoder reads and predicts; TEXT is the source then.")
@click.option("--out", "-o", metavar="PATH", type=click.Path(),
              help="Write all numbers to FILE.csv, FILE.json or FILE.parquet, or a page with figures: FILE.html, or a "
              "folder with the page and the numbers.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="No progress on stderr.")
def lens(
    text: str | None, file: str | None, out: str | None, units: Any, as_json: bool, quiet: bool, target: str | None,
    **options: Any,
) -> int:
    """Read what the model would predict after each layer, for every token of TEXT, and how sure it would be.

    A short text is printed token by token: the entropy of each prediction, and under it the most probable token at the
    last place. A longer one is printed place by place, as means over its tokens; so are --renyi and --top-p of any
    text. --out keeps every number.

    \b
    Examples:
      infogeo lens "The old dog chased the cat."
      infogeo lens --file story.txt --stages all --out page
      infogeo lens --file story.txt --units bits --renyi 2 --renyi inf --top-p 0.9 --out lens.parquet
      infogeo lens "A house." --model ./t5 --target "Ein Haus."
    """
    from infogeo_adapters._lens_text import read_long_text
    from infogeo_adapters.progress import progress_bar
    from infogeo_adapters.transformers.alignment import check_text

    whole = read_text(text, file)
    if target is not None:
        check_text(target)
    kind = None if out is None else _kind(out)
    say = teller(quiet)
    model = open_model(options, say)
    tuned = _tuned(options["tuned_lens"], model)
    pages = kind in ("html", "folder")
    say("reading the text")
    with progress_bar("lens", unit="windows", file=io.StringIO() if quiet else None) as show:
        profile, notes = read_long_text(
            model, whole, target=target, stages=options["stages"], progress=show, lens=tuned,
            renyi=options["orders"], top_p=options["top_p"], used_only=options["used_only"],
            top_k=options["top_k"] if given("top_k") else min(TOP_K, len(model.tokenizer)) if pages else 1,
        )
    written = None if out is None else _write(profile, out, kind, (whole, target), units, notes)
    if written is not None:
        say(f"wrote {written}")
    if as_json:
        print_json(profile.to_dict())
    elif written is not None:
        click.echo(written)
    else:
        _print(profile, units)
    for note in notes:
        tell(note)
    if written is None and not as_json:
        tell(_about(profile, units))
    return 0


def _kind(out: str) -> str:
    """What --out asks for: the ending of a file, or folder; refused here if it cannot be written."""
    from infogeo_adapters.files import check_place
    from infogeo_adapters.report.folder import check_output_folder
    from infogeo_adapters.tables import FORMATS, check_table_file

    ending = Path(out).suffix.lower().removeprefix(".")
    if ending and ending not in ("html", *FORMATS):
        raise click.UsageError(
            f"--out {out}: the ending .{ending} is none of .html, {', '.join(f'.{name}' for name in FORMATS)}; "
            "a folder has none"
        )
    if ending in FORMATS:
        return check_table_file(out)
    for package in ("plotly", "jinja2"):
        require(package, extra="plots", caller="infogeo lens --out")
    if ending:
        check_place(out)
        return ending
    check_output_folder(out)
    return "folder"


def _tuned(file: str | None, model: Any) -> Any:
    if file is None:
        return None
    from infogeo_adapters import load_tuned_lens

    return load_tuned_lens(file, model)


def _write(
    profile: EntropyProfile, out: str, kind: str | None, texts: tuple[str, str | None], units: EntropyUnit,
    notes: list[str],
) -> str:
    from infogeo_adapters.files import write_atomically
    from infogeo_adapters.report.lens import readable_tokens, write_lens_report
    from infogeo_adapters.tables import write_table

    if kind in ("html", "folder"):
        return str(write_lens_report(profile, out, text=texts[0], target=texts[1], units=units, notes=notes))
    if kind == "json":
        write_atomically(out, (profile.to_json() + "\n").encode("utf-8"))
    else:
        write_table(readable_tokens(profile), out)
    return out


def _print(profile: EntropyProfile, units: EntropyUnit) -> None:
    """Tokens as columns where they fit; a line for each place where they do not, or more than entropy is wanted."""
    from infogeo_adapters.plots.lens import shown_tokens

    names = [name[:16] for name in shown_tokens(profile, profile.tokens)]
    last = [name[:16] for name in shown_tokens(profile, profile.top_tokens[-1])]
    entropy = profile.in_units(units)
    stages = [[stage] for stage in profile.row_stages] if {*profile.row_stages} - {"embedding", "resid_post"} else None
    wide = 8 + (max(2 + len(stage) for stage in profile.row_stages) if stages else 0)
    if wide + sum(2 + max(len(a), len(b), 5) for a, b in zip(names, last, strict=True)) <= WIDTH:
        rows: list[list[Any]] = [
            [layer, *(stages[r] if stages else ()), *(f"{h:.3f}" for h in entropy[r].tolist())]
            for r, layer in enumerate(profile.row_layers.tolist())
        ]
        heads = ["layer", "stage"] if stages else ["layer"]
        print_aligned([*heads, *names], [*rows, ["predicts", *[""][: len(heads) - 1], *last]], names=len(heads))
        if not profile.renyi and profile.set_size is None:
            return
        click.echo()
    from infogeo_adapters.report.lens import SHORT, place_cell, place_table

    columns, table = place_table(profile, units)
    cells = [[place_cell(name, value) for name, value in zip(columns, row, strict=True)] for row in table]
    print_aligned([SHORT.get(name, name) for name in columns], cells, names=2)


def _about(profile: EntropyProfile, units: EntropyUnit) -> str:
    """What the table is, and how to get the rest."""
    rest = {"nats": "nats", "bits": "bits", "normalized": f"shares of log {profile.n_outcomes:,}, the rest in nats"}
    what = "next token" if profile.predicts == "next" else "token itself, which the model sees"
    return (
        f"entropies of the prediction of the {what}, in {rest[units]}; {len(profile.tokens)} tokens at "
        f"{len(profile.row_stages)} places, {profile.n_outcomes:,} outcomes. Every number: --out lens.csv; a page with "
        "figures: --out lens"
    )
