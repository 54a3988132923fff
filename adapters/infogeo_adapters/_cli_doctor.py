"""The command ``infogeo doctor``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from infogeo_adapters._cli_input import rephrase
from infogeo_adapters._cli_options import precision_options
from infogeo_adapters._cli_output import open_model, print_json, teller

NOT_WELL = 1


@click.command()
@click.argument("model", required=False, metavar="[MODEL]")
@precision_options
@click.option("--sample", metavar="TEXT", help="The text to run, in place of an English sentence.")
@click.option("--json", "as_json", is_flag=True, help="Print all values as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="No progress on stderr.")
def doctor(model: str | None, sample: str | None, as_json: bool, quiet: bool, **options: Any) -> int:
    """Look at MODEL and say what was found and measured, line by line, and what does not work.

    MODEL is a folder, a name on the hub, 'bundled' (the default) or 'minilm'. Among the lines: where the blocks are,
    the way to the logits and how far it is from the model's own, attention, the stages inside a block, the tokenizer,
    the context length, and whether padding changes anything.

    Exit code 1 says that something does not work, and its line says why: a sentence encoder has no head to read out, a
    Mamba no attention. Exit code 2 says that the model could not be loaded.

    \b
    Examples:
      infogeo doctor
      infogeo doctor ./my-model --dtype bfloat16
      infogeo doctor minilm --json
    """
    from infogeo_adapters.doctor import inspect_model
    from infogeo_adapters.transformers.alignment import check_text

    if sample is not None:
        check_text(sample)
    say = teller(quiet)
    loaded = open_model({"model": model, **options}, say)
    say("looking at it")
    report = inspect_model(loaded, sample=sample)
    report = replace(report, checks=tuple(
        replace(check, found=rephrase(check.found), reason=None if check.reason is None else rephrase(check.reason))
        for check in report.checks
    ))
    if as_json:
        print_json(report.to_dict())
    else:
        click.echo(report.text())
    return 0 if report.well else NOT_WELL
