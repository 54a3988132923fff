"""The command line: ``infogeo report``, ``graph``, ``compare``, ``capacity``, ``lens``, ``diagnose``, ``doctor``.

Results go to stdout, progress and errors to stderr. Exit codes: 0 done, 1 done with a negative finding, 2 not done,
130 interrupted, 141 nobody read the output to its end.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from infogeo.errors import InfogeoError
from infogeo_adapters._cli_capacity import capacity
from infogeo_adapters._cli_diagnose import diagnose
from infogeo_adapters._cli_doctor import doctor
from infogeo_adapters._cli_input import check_file, given, read_inputs, rephrase, show_usage_error
from infogeo_adapters._cli_lens import lens
from infogeo_adapters._cli_options import (
    attention_option,
    graph_options,
    normalization_option,
    permutations_option,
    seed_option,
    text_options,
)
from infogeo_adapters._cli_output import open_model, print_json, print_table, tell, teller
from infogeo_adapters._cli_reading import (
    edge_rule,
    material_of,
    read_with,
    settle_for_all,
    told_distances,
    why_no_edge,
)
from infogeo_adapters._cli_similarity import compare_pairs, similarity_option
from infogeo_adapters._cli_treebank import compare_treebank, refuse_mixture, treebank_options
from infogeo_adapters._require import require

NEGATIVE = 1
FAILED = 2
INTERRUPTED = 130
UNREAD = 141
COMPLETE = "_INFOGEO_COMPLETE"
FORMATS = ("graphml", "gexf", "json", "dot", "csv")


def _show_version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        from infogeo.results import installed_versions

        click.echo(f"infogeo {installed_versions().get('infogeo', '(not installed)')}")
        ctx.exit()


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version,
              help="Print the version and exit.")
def cli() -> None:
    """How the words of a text relate on the statistical manifold of a language model, beside attention.

    Where the model allows it, words are joined by the influence graph: two words are close if each moves on the
    manifold when the other is taken away, more than is usual so far apart. --construction takes distances between the
    words' distributions in its place.

    \b
    Examples:
      infogeo report "The dog chased the cat because it was hungry."
      infogeo graph "The dog chased the cat." --out graph.graphml
      infogeo compare --file story.txt --lines --json
      infogeo capacity "The dog chased the cat." --view attention
      infogeo lens "The dog chased the cat." --out lens
      infogeo diagnose runs/first --out page
      infogeo doctor ./my-model

    \b
    Exit codes: 0 done, 1 done with a negative finding (compare, diagnose, doctor), 2 could not be done,
    130 interrupted, 141 the output was not read to its end (as by head).
    Tab completion: see infogeo completion --help.
    """


@cli.command()
@text_options
@graph_options("neighbors")
@attention_option
@click.option("--out", "-o", default="report", show_default=True, metavar="DIR", type=click.Path(),
              help="Folder to write; it must be absent, empty, or an earlier report, which is replaced.")
@click.option("--units", type=click.Choice(("nats", "bits")), default="nats", show_default=True,
              help="Of the entropies on the page.")
@permutations_option
@seed_option
@click.option("--json", "as_json", is_flag=True, help="Print where the report is and its main numbers as JSON.")
def report(out: str, units: Any, as_json: bool, text: str | None, file: str | None, quiet: bool, **options: Any) -> int:
    """Write a folder with a page that shows the words of TEXT as graphs, maps and tables, and all data beside it.

    The page, DIR/index.html, opens in any browser and needs no network. First on it stands the influence graph where
    the model allows it, beside attention; --construction names another one.

    \b
    Examples:
      infogeo report "The dog chased the cat because it was hungry."
      infogeo report --file story.txt --layer 4 --out story
      infogeo report "Colorless green ideas sleep." --model minilm --construction components
    """
    from infogeo_adapters.analysis import analyze
    from infogeo_adapters.relations import find_attention
    from infogeo_adapters.report import check_output_folder, write_report

    text = read_inputs(text, file, options)
    check_output_folder(out)
    edge_rule(options)
    find_attention(options["attention"])
    for package in ("plotly", "jinja2"):
        require(package, extra="plots", caller="infogeo report")
    say = teller(quiet)
    model = open_model(options, say)
    analysis = analyze(
        model, text, layer=options["layer"], construction=options["construction"], measure=options["measure"],
        graph=options["kind"], neighbors=options["neighbors"], radius=options["radius"], attention=options["attention"],
        background=options["background"], corpus=options["corpus"], removal=options["removal"],
        distribution=options["distribution"], overflow=options["overflow"],
        permutations=options["permutations"], rng=options["seed"], progress=say,
    )
    say("writing the report")
    left_out: list[str] = []
    page = write_report(analysis, out, units=units, left_out=left_out.append)
    for note in (*analysis.notes, *left_out):
        click.echo(f"infogeo: {rephrase(note)}", err=True)
    if as_json:
        print_json({
            "page": str(page), "words": len(analysis.activations.words), "layer": analysis.layer,
            "edges": analysis.graph.n_edges, "attention_edges": analysis.attention_graph.n_edges,
            "shared_edges": len(analysis.shared_edges()), "seconds": analysis.seconds,
            "comparisons": None if analysis.comparisons is None else analysis.comparisons.to_dict(),
        })
    else:
        click.echo(str(page))
    return 0


@cli.command()
@text_options
@normalization_option
@graph_options(None)
@attention_option
@click.option("--of", "what", type=click.Choice(("distances", "attention")), default="distances", show_default=True,
              help="Which graph: from the distances, or from attention by the same rule.")
@click.option("--out", "-o", metavar="FILE", type=click.Path(),
              help="Write the graph to a file; its ending names the format.")
@click.option("--format", "format_", metavar="FORMAT",
              help=f"Format of the file where its ending does not say: {', '.join(FORMATS)}.")
@click.option("--json", "as_json", is_flag=True, help="Print the graph as JSON.")
def graph(
    what: str, out: str | None, format_: str | None, as_json: bool, text: str | None, file: str | None, quiet: bool,
    **options: Any,
) -> int:
    """Make the word graph of TEXT: print its edges, or write it to a file for other tools.

    By default it is the influence graph where the model allows it, drawn as its tree, the same as influence_graph() in
    Python; --construction names another one, drawn as three nearest neighbors. --graph draws another one of both.

    Each edge has a distance (small is close) and a weight (large is close). By influence the weight w is the
    exponential of half the evidence that two words are related, and the distance ln((1 + w) / w): 0.69 where w is 1,
    so that the evidence is zero. By other constructions the distance d is that of the measure, and the weight
    1 / (1 + d).

    \b
    Examples:
      infogeo graph "The dog chased the cat."
      infogeo graph "The dog chased the cat." -k 2
      infogeo graph "The dog chased the cat." --removal delete --distribution states
      infogeo graph --file story.txt --graph tree --out tree.gexf
      infogeo graph "The dog chased the cat." --of attention --attention head:3.2 --json
    """
    from infogeo_adapters.influence_relation import InfluenceRelation
    from infogeo_adapters.relations import find_attention

    if format_ is not None and out is None:
        raise click.UsageError("--format goes with --out FILE; --json prints JSON to stdout")
    if what == "distances" and given("attention"):
        raise click.UsageError("--attention goes with --of attention; the graph of distances uses none")
    if what == "attention" and options["kind"] != "radius":
        for name in ("removal", "distribution", "normalization", "measure"):
            if options[name] is not None:
                raise click.UsageError(f"--{name} goes with the graph of distances; --of attention makes none")
    text = read_inputs(text, file, options)
    edge_rule(options)
    baseline = find_attention(options["attention"])
    if out is not None:
        check_file(out, format_)
    say = teller(quiet)
    of_attention = what == "attention"
    reading = read_with(
        material_of(open_model(options, say), options), text, options, say, attention=of_attention,
        distances=not of_attention or options["kind"] == "radius",
    )
    rule = edge_rule(options, influence=isinstance(reading.relation, InfluenceRelation))
    tell(rule.note(len(reading.activations.words)))
    if of_attention:
        affinity = baseline(reading.activations, reading.layer)
        edges = rule.of_distances(told_distances(reading)).n_edges if rule.kind == "radius" else 0
        made = rule.of_attention(affinity, edges)
    else:
        made = rule.of_distances(told_distances(reading))
    tell(why_no_edge(made, rule))
    if out is not None:
        from infogeo_adapters.files import write_graph

        write_graph(made, out, format=format_)
        say(f"wrote {out}")
    if as_json:
        print_json(made.to_dict())
    elif out is None:
        click.echo(made.summary(), err=True)
        print_table(*made.rows())
    else:
        click.echo(out)
    return 0


@cli.command()
@text_options
@normalization_option
@treebank_options
@similarity_option
@attention_option
@click.option("--heads", is_flag=True, help="Compare with every head of every block in place of --attention.")
@click.option("--lines", is_flag=True,
              help="Each line of the file is a text of its own: means over them, with bootstrap intervals.")
@permutations_option
@seed_option
@click.option("--alpha", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True,
              help="Level of the finding that sets the exit code.")
@click.option("--json", "as_json", is_flag=True, help="Print the comparisons as JSON.")
def compare(
    heads: bool, lines: bool, permutations: int, seed: int, alpha: float, as_json: bool, text: str | None,
    file: str | None, quiet: bool, **options: Any,
) -> int:
    """Compare the distances between the words of TEXT with attention, or a model with a treebank or with judgments.

    By default the distances are those of the influence graph where the model allows it, with --lines if it allows it
    for each line; --construction names others.

    Rank correlations, with and without word order, shared edges of the closest pairs and of the spanning trees, with
    permutation tests.

    Words that stand near each other are mostly close on both sides, so word order alone makes distances and attention
    agree. Exit code 1 says that no agreement beyond word order was found: for one text no partial Mantel test (only
    among pairs equally far apart in the text) has p <= alpha, for --lines no bootstrap interval (of coverage 1 - alpha)
    of the partial coefficient lies above zero. With --heads that is one chance for every head; the p-values are not
    corrected for it.

    With --treebank, graphs of all families are compared with trees made by people. UUAS is the share of the relations
    that a spanning tree of the graph finds, long the same for words more than three apart; diff is what a family has
    more of it than the best attention head, with p corrected for the number of families; s are the seconds it took.
    Exit code 1 says that no influence graph is above the best attention head with p <= alpha. --out writes a page.

    With --similarity, distances between the words of pairs are compared with what people judged: Spearman's
    coefficient, the layer chosen on one half of the pairs and reported on the other. Exit code 1 is not used there.

    \b
    Examples:
      infogeo compare --treebank sample --model minilm --out trees
      infogeo compare --similarity pairs.csv --corpus story.txt --out pairs_compared.csv
      infogeo compare "The dog chased the cat because it was hungry."
      infogeo compare "The dog chased the cat because it was hungry." --heads --json
      infogeo compare --file sentences.txt --lines --attention rollout
    """
    from infogeo.comparison import compare_graphs, compare_over_sentences
    from infogeo_adapters.relations import all_heads, find_attention

    refuse_mixture(options)
    if options["similarity"] is not None:
        compare_pairs(options, alpha=alpha, seed=seed, as_json=as_json, quiet=quiet)
        return 0
    if options["treebank"] is not None:
        wins = compare_treebank(options, alpha=alpha, seed=seed, as_json=as_json, quiet=quiet)
        return 0 if wins else NEGATIVE
    if lines and file is None:
        raise click.UsageError("--lines needs --file FILE with one text a line")
    if heads and given("attention"):
        raise click.UsageError("--heads takes every head in place of --attention; give one of the two")
    if lines and given("permutations"):
        raise click.UsageError("--permutations goes with one text; --lines gives bootstrap intervals")
    text = read_inputs(text, file, options)
    baseline = None if heads else find_attention(options["attention"])
    say = teller(quiet)
    material = material_of(open_model(options, say), options)
    texts = [line for line in text.split("\n") if line.strip()] if lines else [text]
    if lines:
        settle_for_all(material.model, texts, options)
    sentences = []
    for number, one in enumerate(texts):
        reading = read_with(material, one, options, say, number=f" {number + 1} of {len(texts)}" if lines else "")
        acts = reading.activations
        affinities = all_heads(acts) if baseline is None else [baseline(acts, reading.layer)]
        sentences.append((told_distances(reading), affinities))
    say("comparing")
    if lines:
        found = compare_over_sentences(sentences, level=1 - alpha, rng=seed)
        agrees = any(c.statistic == "partial_spearman" and c.interval is not None and c.interval[0] > 0 for c in found)
    else:
        found = compare_graphs(*sentences[0], permutations=permutations, rng=seed)
        agrees = any(c.statistic == "partial_mantel" and c.p_value is not None and c.p_value <= alpha for c in found)
    if as_json:
        plain = found.to_dict()
        plain["items"] = [{**item, "block": item["layer"]} for item in plain["items"]]
        print_json(plain)
    else:
        columns, rows = found.rows()
        print_table(["block" if name == "layer" else name for name in columns], rows)
    for reason in found.undefined:
        click.echo(f"infogeo: undefined: {reason}", err=True)
    if not agrees:
        say(f"no agreement with attention beyond word order at level {alpha:g}")
    return 0 if agrees else NEGATIVE


@cli.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> int:
    """Print the script that makes SHELL complete commands, options and names of measures.

    \b
    Examples:
      infogeo completion bash > ~/.local/share/bash-completion/completions/infogeo
      infogeo completion zsh > ~/.zfunc/_infogeo
      infogeo completion fish > ~/.config/fish/completions/infogeo.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"click knows no completion for {shell}")
    click.echo(found(cli, {}, "infogeo", COMPLETE).source())
    return 0


for command in (capacity, lens, diagnose, doctor):
    cli.add_command(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; by default those of the process.

    Returns
    -------
    int
        0 done, 1 done with a negative finding, 2 could not be done, 130 interrupted, 141 nobody read the output to its
        end.
    """
    try:
        code = _reported(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        with contextlib.suppress(OSError, ValueError):  # what is still to be flushed at the end goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD


def _reported(arguments: list[str]) -> int:
    """The exit code of a command, its errors told on stderr."""
    try:
        return _run(arguments)
    except click.UsageError as error:
        show_usage_error(error)
        return FAILED
    except click.ClickException as error:
        click.echo(f"infogeo: {error.format_message()}", err=True)
        return FAILED
    except InfogeoError as error:
        click.echo(f"infogeo: {rephrase(str(error))}", err=True)
        return FAILED
    except (click.Abort, KeyboardInterrupt):
        click.echo("infogeo: interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception:
        traceback.print_exc()
        click.echo("infogeo: this is an error in infogeo itself; please report it with the lines above", err=True)
        return FAILED


def _run(arguments: list[str]) -> int:
    """The exit code of a command; click's own main would take a broken pipe for a negative finding."""
    asked = os.environ.get(COMPLETE)
    if asked:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, "infogeo", COMPLETE, asked)
    try:
        with cli.make_context("infogeo", arguments) as context:
            return int(cli.invoke(context) or 0)
    except click.exceptions.Exit as end:
        return end.exit_code


if __name__ == "__main__":
    sys.exit(main())
