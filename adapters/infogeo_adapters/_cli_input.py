"""What the command line is given, checked before any model is loaded, and messages in its own words."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from infogeo.errors import TextError

PHRASES = (
    ("or project with components=", "or project with --components"),
    ("cut it with overflow='truncate' or into several texts with split_into_windows(model, text)",
     "cut it with --overflow truncate or into several texts"),
    ("graph 'radius' needs radius=", "--graph radius needs --radius"),
    ("only for graph 'radius', not ", "only for --graph radius, not "),
    (
        (
            "load it once with allow_pickle=True if you trust it and write it again with "
            "model.save_pretrained(folder), which makes safetensors"
        ),
        "add --allow-pickle if you trust it",
    ),
    ("or pass format=", "or name one with --format"),
    (
        "use a language model such as load_model(), or pass readout=, a function from states (T, d) to logits (T, V)",
        "or use a language model such as bundled",
    ),
    ("; pass readout= to the lens, or report the model", "; please report the model"),
    ("leave them out with used_only", "infogeo lens --used-only leaves them out"),
    ("(pass sample=)", "(try --sample)"),
    ("give it with target=", "give it with --target"),
    ("leave target out", "leave --target out"),
    ("use stages='resid_post', or no lens", "use --stages resid_post, or no --tuned-lens"),
    ("split the text into words differently (words=), or remove it", "remove it"),
    ("top_k: found", "--top-k: found"),
    (
        "; give one with tokenizer=",
        "; put the tokenizer of the model into the folder (infogeo diagnose also takes --tokenizer FOLDER)",
    ),
    ("dtype='float32'", "--dtype float32"),
    ("dtype='bfloat16'", "--dtype bfloat16"),
    ("(construction='shared-covariance')", "(--construction shared-covariance)"),
    ("influence_graph leaves such pairs apart, and normalization 'distance' knows none",
     "--normalization distance knows no such pairs"),
    ("; measure other layers or edges, or use another normalization",
     "; name another --layer or another --normalization"),
    ("give other sentences, or split='cross'", "give other sentences, or leave --choose out"),
    ("choose: found", "--choose: found"),
    ("; give tokens=", "; give --tokens "),
    ("capture it with attention=False", "infogeo graph works without attention, infogeo report and compare do not"),
)
"""What the library says in Python, and the same for the command line."""


def rephrase(message: str) -> str:
    """A message of the library in the words of the command line.

    Examples
    --------
    >>> rephrase("choose one of these, or pass format=")
    'choose one of these, or name one with --format'
    """
    for python, option in PHRASES:
        message = message.replace(python, option)
    return message


def show_usage_error(error: click.UsageError) -> None:
    """A usage error in the voice of all others, under the line that says how the command is used."""
    if error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
    click.echo(f"infogeo: {error.format_message()}", err=True)
    if error.ctx is not None:
        click.echo(f"Try '{error.ctx.command_path} --help' for help.", err=True)


def given(name: str) -> bool:
    """Whether an option stands on the command line."""
    return click.get_current_context().get_parameter_source(name) not in (None, ParameterSource.DEFAULT)


def refuse_unused(options: dict[str, Any]) -> None:
    """Refuse options that would have no effect beside the others.

    Raises
    ------
    click.UsageError
        That names both.
    """
    construction, kind = options["construction"], options.get("kind")
    named = construction or "influence, the default,"
    if options["corpus"] is not None and construction != "occurrences":
        raise click.UsageError(f"--corpus goes with --construction occurrences; {named} uses no corpus")
    if options["corpus"] is None and construction == "occurrences":
        raise click.UsageError("--construction occurrences counts the words of a corpus; give one with --corpus FILE")
    if options["background"] is not None and construction not in (None, "shared-covariance"):
        raise click.UsageError(
            f"--background goes with --construction shared-covariance; {construction} uses no background"
        )
    if construction == "influence" and options["measure"] is not None:
        raise click.UsageError(
            "--measure compares distributions with each other, and --construction influence makes none to compare: its "
            "length is ln((1 + w) / w) of how strongly two words move each other; leave --measure out, or choose "
            "another --construction, such as shared-covariance"
        )
    for name in ("removal", "distribution", "normalization"):
        if options.get(name) is None:
            continue
        other = construction if construction != "influence" else None
        by = f"--construction {other}" if other else "--measure" if options["measure"] is not None else (
            "--background" if options["background"] is not None else None)
        if by is not None:
            raise click.UsageError(f"--{name} says how influence is measured; {by} takes distances between "
                                   "distributions, and no word away")
    if kind in ("tree", "radius") and given("neighbors"):
        raise click.UsageError(f"--neighbors goes with --graph neighbors or mutual; {kind} has no such number")


def read_inputs(text: str | None, file: str | None, options: dict[str, Any]) -> str:
    """The text of a command, from exactly one of its two places; background and corpus are read too, if named.

    Raises
    ------
    click.UsageError
        If there are two texts or none, or options that have no effect.
    TextError
        If a file cannot be read, is empty, or holds what no tokenizer reads.
    """
    refuse_unused(options)
    found = read_text(text, file)
    for name in ("background", "corpus"):
        if options[name] is not None:
            options[name] = _read_text(name, options[name])
    return found


def read_text(text: str | None, file: str | None) -> str:
    """The text of a command, from exactly one of its two places, checked.

    Raises
    ------
    click.UsageError
        If there are two texts or none.
    TextError
        If the file cannot be read, or the text is empty or holds what no tokenizer reads.
    """
    from infogeo_adapters.transformers.alignment import check_text

    if (text is None) == (file is None):
        how = "both were given" if text is not None else "neither was given"
        raise click.UsageError(f"give the text either as TEXT or with --file FILE; {how}")
    return check_text(text) if text is not None else _read_text("file", file)


def _read_text(option: str, file: str | None) -> str:
    """A file's text, checked; errors name the option and the file."""
    from infogeo_adapters.transformers.alignment import check_text

    content = read_file(file) if file is not None else ""
    try:
        return check_text(content)
    except TextError as error:
        raise TextError(f"--{option} {file}: {error}") from error


def read_file(file: str) -> str:
    """A file's text, strictly UTF-8 (a byte-order mark at its beginning is no part of the text); - is stdin."""
    name = "stdin" if file == "-" else file
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (OSError, ValueError) as error:
        raise TextError(f"{name} cannot be read ({error}); check its name and permissions") from error
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin1"
        raise TextError(
            f"{name} is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x} ({error.reason}); "
            + ("it begins like UTF-16: convert it with" if encoding == "utf-16" else "convert it, for example with")
            + f" iconv -f {encoding} -t utf-8"
        ) from error


def check_file(out: str, format_: str | None) -> None:
    """Refuse a file that could not be written, and an ending that belongs to another format.

    Raises
    ------
    click.UsageError
        If ending and format contradict each other.
    ArgumentError
        If the format is unknown.
    OutputError
        If no file can be written there.
    """
    from infogeo_adapters import files

    ending = Path(out).suffix.lower()
    owner = next((name for name, kind in files.FORMATS.items() if ending in kind.suffixes), None)
    if format_ in files.FORMATS and owner not in (None, format_):
        raise click.UsageError(f"--format {format_} does not go with the ending {ending}, which means {owner}")
    files.check_graph_file(out, format=format_)
