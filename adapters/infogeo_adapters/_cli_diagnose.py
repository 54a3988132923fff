"""The command ``infogeo diagnose``."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infogeo_adapters._cli_diagnosis_text import print_comparison, print_diagnosis, rules_text, tell_rest
from infogeo_adapters._cli_input import given
from infogeo_adapters._cli_options import precision_options
from infogeo_adapters._cli_output import print_json, tell, teller
from infogeo_adapters._require import require

if TYPE_CHECKING:
    from infogeo._diagnosis_comparison import RunComparison
    from infogeo.training import TrainingHistory
    from infogeo_adapters.plots._training_parts import Units

HISTORY = "history.jsonl"
LONGEST = 20_000_000
"""Bytes of a text for --probe; of a longer one most would be read for nothing."""
OF_MODELS = ("probe", "texts", "tokens", "tokenizer", "dtype", "device", "allow_pickle")
"""Parameters that have no effect on the history of a run."""


class ThresholdValue(click.ParamType):  # type: ignore[type-arg]  # not generic in all versions of click
    """NAME=NUMBER of a threshold."""

    name = "threshold"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        """The name and the number, or a usage error that names the closest."""
        if isinstance(value, tuple):
            return value
        from infogeo.diagnosis import Thresholds

        name, _, number = str(value).partition("=")
        known = [f.name for f in dataclasses.fields(Thresholds)]
        if name not in known:
            self.fail(f"{name!r} is no threshold; {_closest(name, known)}", param, ctx)
        try:
            return name, float(number)
        except ValueError:
            self.fail(f"{value!r}: give it as {name}=NUMBER", param, ctx)


def _list_rules(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        click.echo(rules_text())
        ctx.exit()


@click.command()
@click.argument("run", metavar="RUN|MODEL|CHECKPOINT")
@click.argument("other", required=False, metavar="[OTHER]")
@click.option("--until", type=click.IntRange(min=0), metavar="STEP",
              help="Look at a run as it stood after this step.")
@click.option("--rules", metavar="NAME,...", help="Check these rules only; --list-rules prints all.")
@click.option("--threshold", "thresholds", multiple=True, type=ThresholdValue(), metavar="NAME=NUMBER",
              help="Another threshold than that of --list-rules; may be repeated.")
@click.option("--list-rules", is_flag=True, is_eager=True, expose_value=False, callback=_list_rules,
              help="Print all rules and thresholds with their reasons and sources, and exit.")
@click.option("--probe", metavar="TEXTFILE", type=click.Path(allow_dash=True),
              help="Of a model or checkpoint: measure it on this text in UTF-8 in place of the packaged one; - is "
              "stdin.")
@click.option("--texts", type=click.IntRange(min=1), default=16, show_default=True,
              help="Of a model or checkpoint: pieces of the text that are read, spread evenly over it.")
@click.option("--tokens", type=click.IntRange(min=1), default=48, show_default=True,
              help="Of a model or checkpoint: tokens of each piece.")
@click.option("--tokenizer", metavar="FOLDER",
              help="Of a checkpoint without a tokenizer of its own: the folder or name of the model to take it from.")
@precision_options
@click.option("--units", "-u", type=click.Choice(("nats", "bits")), default="nats", show_default=True,
              help="Of tables and figures; sentences and JSON are in nats.")
@click.option("--out", "-o", metavar="DIR", type=click.Path(),
              help="Write a page with figures, and all numbers; the folder must be absent, empty, or an earlier "
              "report, which is replaced.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="No progress on stderr.")
def diagnose(
    run: str, other: str | None, until: int | None, units: Units, out: str | None, as_json: bool, quiet: bool,
    **options: Any,
) -> int:
    """Tell what is wrong with a model or its training, in which layer and since when.

    RUN is the folder that a TrainingMonitor writes to (or its history.jsonl), a MODEL is a folder, 'bundled' or
    'minilm', a CHECKPOINT a folder as the Trainer writes it. Of a run all rules are checked; of a model or checkpoint
    those that need no history, and the others are named with the reason. With OTHER the two are compared.

    A table of layers comes first (a star is at what a finding is about), then the findings in words: what was seen,
    what it means, and what to try first.

    Exit code 1 says that at least one fault was found, warnings alone give 0; 2 that it could not be looked at.

    \b
    Examples:
      infogeo diagnose runs/first
      infogeo diagnose runs/first --until 500 --out page
      infogeo diagnose bundled --probe story.txt --units bits
      infogeo diagnose out/checkpoint-100 out/checkpoint-500
      infogeo diagnose --list-rules
    """
    from infogeo.diagnosis import Thresholds, compare_runs
    from infogeo.diagnosis import diagnose as look

    rules = None if options["rules"] is None else [n.strip() for n in options["rules"].split(",") if n.strip()]
    check_rules(rules)
    lines = Thresholds(**dict(options["thresholds"]))
    if out is not None:
        _check_out(out)
    kinds = [kind_of(name) for name in (run, other) if name is not None]
    if "model" not in kinds:
        for parameter in click.get_current_context().command.params:
            if parameter.name in OF_MODELS and given(parameter.name):
                raise click.UsageError(
                    f"{parameter.opts[0]} goes with a model or checkpoint; found the history of a run"
                )
    elif until is not None and "run" not in kinds:
        raise click.UsageError("--until goes with the history of a run; a model or checkpoint has one state only")
    say = teller(quiet)
    text = None if options["probe"] is None else read_probe(options["probe"])
    first, *rest = (
        _history(name, kind, text, options, say)
        for name, kind in zip((run, other), kinds, strict=False) if name is not None
    )
    if until is not None:
        first, *rest = (h if k == "model" else _cut(h, until) for h, k in zip((first, *rest), kinds, strict=True))
    if rest:
        compared = compare_runs(first, rest[0], thresholds=lines, rules=rules)
        return _tell_comparison(compared, units=units, out=out, as_json=as_json, say=say)
    diagnosis = look(first, thresholds=lines, rules=rules)
    page = None
    if out is not None:
        from infogeo_adapters.training.page import write_diagnosis

        page = write_diagnosis(diagnosis, first, out, units=units, left_out=tell)
        say(f"wrote {page}")
    if as_json:
        print_json({**diagnosis.to_dict(), "page": None if page is None else str(page)})
    else:
        print_diagnosis(diagnosis, units)
    tell_rest(diagnosis)
    return diagnosis.exit_code


def check_rules(rules: Sequence[str] | None) -> None:
    """Refuse names of rules that are none.

    Raises
    ------
    click.UsageError
        That names the closest there are.
    """
    from infogeo.diagnosis import RULES

    for name in rules or ():
        if name not in RULES:
            raise click.UsageError(f"--rules: {name!r} is no rule; {_closest(name, list(RULES))}")
    if rules is not None and not rules:
        raise click.UsageError("--rules: found no name; --list-rules prints all")


def _closest(name: str, known: Sequence[str]) -> str:
    """The names most like one that is not known, and how to see all."""
    close = difflib.get_close_matches(name, known)
    return (f"closest: {', '.join(close)}; " if close else "") + "--list-rules prints all"


def kind_of(name: str) -> str:
    """What an argument names: ``run``, a file or folder with a history, or ``model``.

    Raises
    ------
    ArgumentError
        If it is a path where there is nothing, or a folder that holds neither.
    """
    from infogeo.errors import ArgumentError

    try:
        path = Path(name).expanduser()
        is_file, is_folder = path.is_file(), path.is_dir()
        inside = sorted(path.iterdir()) if is_folder else []
    except (OSError, ValueError, RuntimeError) as error:
        raise ArgumentError(f"{name!r} cannot be read ({error}); check its name and permissions") from error
    if is_file or (path / HISTORY).is_file():
        return "run"
    if not is_folder:
        if re.match(r"[./~]", name) or name.endswith((".jsonl", ".json")) or not name.strip():
            raise ArgumentError(
                f"{name!r}: there is no such file or folder; give the folder of a run, its {HISTORY}, or a model"
            )
        return "model"
    if (path / "config.json").is_file():
        return "model"
    below = [p for p in inside if p.is_dir() and ((p / HISTORY).is_file() or (p / "config.json").is_file())]
    if below:
        last = max(below, key=lambda p: [int(part) for part in re.findall(r"\d+", p.name)] or [-1])
        raise ArgumentError(
            f"{name} is no run or checkpoint itself, and holds {len(below)}: {', '.join(p.name for p in below[:5])}"
            f"{', ...' if len(below) > 5 else ''}; name one of them, such as {last}, or two to compare them"
        )
    raise ArgumentError(
        f"{name}: found neither {HISTORY}, which a TrainingMonitor with folder= writes, nor config.json, which a model "
        "has; give the folder of a run, a model or a checkpoint"
    )


def read_probe(file: str) -> str:
    """The text of --probe, not longer than is of use.

    Raises
    ------
    TextError
        If the file cannot be read, is empty, or too long.
    """
    from infogeo.errors import TextError
    from infogeo_adapters._cli_input import read_text

    if file != "-" and (path := Path(file)).is_file() and path.stat().st_size > LONGEST:
        raise TextError(
            f"--probe {file}: found {path.stat().st_size:,} bytes, wanted at most {LONGEST:,}; --texts pieces of "
            "--tokens tokens are all that is read of it, so give a part of it"
        )
    try:
        return read_text(None, file)
    except TextError as error:
        raise TextError(str(error).replace("--file", "--probe")) from error


def _check_out(out: str) -> None:
    from infogeo_adapters.report.folder import check_output_folder

    for package in ("plotly", "jinja2"):
        require(package, extra="plots", caller="infogeo diagnose --out")
    check_output_folder(out)


def _history(name: str, kind: str, text: str | None, options: Mapping[str, Any], say: Any) -> TrainingHistory:
    """A history as it was written, or of one measurement."""
    if kind == "run":
        from infogeo.errors import FormatError
        from infogeo_adapters.plots.style import visible
        from infogeo_adapters.training.history_files import read_history

        say(f"reading {name}")
        read = read_history(Path(name).expanduser())
        if not read.records:
            said = f" ({visible('; '.join(read.notes))})" if read.notes else ""
            raise FormatError(f"{name} holds no record yet{said}; look again when the run has gone on")
        return read
    from infogeo.errors import ModelError
    from infogeo_adapters.training.checkpoints import measure_opened, step_of
    from infogeo_adapters.transformers.loading import open_model

    say(f"loading the model {name}")
    try:
        net, tokenizer, source = open_model(
            name, tokenizer=options["tokenizer"], allow_pickle=options["allow_pickle"], dtype=options["dtype"],
            device=options["device"], finite=False,
        )
    except ModelError as error:
        if "is not a folder here" in str(error):
            raise ModelError(
                f"there is no folder {name!r} with a run or a model, and no model of that name: "
                + str(error).replace("leave the name out for the bundled model", "name 'bundled' or 'minilm'")
            ) from error
        raise
    say("measuring it")
    folder = Path(name).name
    history = measure_opened(
        net, source, probe=text, tokenizer=tokenizer, step=step_of(folder) or 0, texts=options["texts"],
        tokens=options["tokens"],
    )
    return dataclasses.replace(history, name=folder or name)


def _cut(history: TrainingHistory, until: int) -> TrainingHistory:
    from infogeo.errors import ArgumentError

    cut = history.until(until)
    if history.records and not cut.records:
        raise ArgumentError(
            f"--until {until}: the first record of {history.name or 'the run'} is of step {history.steps[0]}"
        )
    return cut


def _tell_comparison(
    compared: RunComparison, *, units: Units, out: str | None, as_json: bool, say: Any
) -> int:
    from infogeo_adapters.plots.style import visible
    from infogeo_adapters.training._page_prose import note_of

    page = None
    if out is not None:
        from infogeo_adapters.training.comparison_page import write_run_comparison

        page = write_run_comparison(compared, out, units=units, left_out=tell)
        say(f"wrote {page}")
    if as_json:
        print_json({**compared.to_dict(), "page": None if page is None else str(page)})
    else:
        print_comparison(compared, units)
    for note in compared.notes:
        tell(visible(note))
    for name, diagnosis in zip(compared.names, compared.diagnoses, strict=True):
        for note in diagnosis.notes:
            tell(f"{note_of(diagnosis).lower()} of {visible(name)}: {visible(note)}")
    tell(visible(compared.summary()))
    return compared.exit_code
