"""Options that several commands of the command line share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Command = TypeVar("Command", bound=Callable[..., Any])
GRAPHS = ("neighbors", "mutual", "tree", "radius")
REMOVALS = ("hide", "mask", "delete", "mean", "resample")
DISTRIBUTIONS = ("effects", "states", "readout")
NORMALIZATIONS = ("distance", "rows", "none", "symmetric", "product")
CONSTRUCTIONS = ("influence", "shared-covariance", "components", "readout", "occurrences", "vectors")


class MeasureName(click.ParamType):  # type: ignore[type-arg]
    """A name in the registry of measures, read only when it is needed so that ``--help`` stays fast."""

    name = "measure"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name itself, or a usage error that lists the names there are."""
        names = self._names()
        if value not in names:
            self.fail(f"{value!r} is not one of {', '.join(names)}", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names that begin with what was typed."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(name) for name in self._names() if name.startswith(incomplete)]

    def _names(self) -> list[str]:
        from infogeo.measures import MEASURES

        return list(MEASURES)


def text_options(command: Command) -> Command:
    """The options that say which text is read, with what model, at which layer, and how words become distributions."""
    options = [
        click.argument("text", required=False),
        click.option("--file", "-f", metavar="FILE", type=click.Path(allow_dash=True),
                     help="Read the text from a file in UTF-8; - is stdin."),
        click.option("--model", "-m", metavar="MODEL",
                     help="A folder, a name on the hub, 'bundled' (the default) or 'minilm'."),
        click.option("--layer", "-l", type=int, metavar="LAYER",
                     help="0 is the embedding, l is after block l, -1 is the last. Default: the middle layer; for "
                     "influence the first after two thirds of the blocks."),
        click.option("--construction", "-c", type=click.Choice(CONSTRUCTIONS),
                     help="influence: words are close if they move each other when one is taken away. Else: how a word "
                     "becomes a distribution, and distances are between these. Default: influence where the model "
                     "allows it and the text has 2 to 100 words, else, or with --measure or --background, "
                     "shared-covariance."),
        click.option("--removal", type=click.Choice(REMOVALS),
                     help="For influence: how a word is taken away. hide it from attention (the default), mask it, "
                     "delete it, give it the mean embedding, or resample it from the model."),
        click.option("--distribution", type=click.Choice(DISTRIBUTIONS),
                     help="For influence: what moves when a word is taken away. Normals with the covariance of effects "
                     "(the default) or of states, or the prediction read out."),
        click.option("--measure", type=MeasureName(), metavar="NAME",
                     help="How distributions are compared, so not for influence; a wrong name lists all. Default: "
                     "fisher_rao_distance, for vectors euclidean_distance."),
        click.option("--background", metavar="FILE", type=click.Path(),
                     help="Text for --construction shared-covariance, in place of the sample that ships with "
                     "infogeo."),
        click.option("--corpus", metavar="FILE", type=click.Path(),
                     help="Text in which occurrences are counted, for --construction occurrences; those in the text "
                     "itself count along."),
        click.option("--overflow", type=click.Choice(("error", "truncate")), default="error", show_default=True,
                     help="What to do with a text longer than the model's context."),
        click.option("--allow-pickle", is_flag=True,
                     help="Load weights that are pickled. A pickle can run any code: only for folders you trust."),
        click.option("--quiet", "-q", is_flag=True, callback=_silence, help="No progress on stderr."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _silence(ctx: click.Context, _: click.Parameter, quiet: bool) -> bool:
    """Keep progress bars from stderr as long as the command runs, wherever they are made."""
    from infogeo_adapters.progress import silent_bars

    if quiet:
        ctx.with_resource(silent_bars())
    return quiet


def precision_options(command: Command) -> Command:
    """The options that say in what format and where a model computes, and what may be loaded."""
    options = [
        click.option("--dtype", type=click.Choice(("float32", "float64", "bfloat16", "float16")),
                     help="Number format to compute in. Default: float32."),
        click.option("--device", metavar="DEVICE", help="Where to compute, such as cuda. Default: cpu."),
        click.option("--allow-pickle", is_flag=True,
                     help="Load weights that are pickled. A pickle can run any code: only for folders you trust."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def computing_options(command: Command) -> Command:
    """The options that say which model computes, in what format and where."""
    named = click.option("--model", "-m", metavar="MODEL",
                         help="A folder, a name on the hub, 'bundled' (the default) or 'minilm'.")
    return named(precision_options(command))


def graph_options(default: str | None) -> Callable[[Command], Command]:
    """The options that say how edges are chosen; without a default that depends on what the graph is made of."""
    said = "neighbors" if default else "for influence tree, unless --neighbors is given, else neighbors"

    def add(command: Command) -> Command:
        options = [
            click.option("--graph", "-g", "kind", type=click.Choice(GRAPHS), default=default,
                         help="Nearest neighbors, mutual ones, minimum spanning tree, or all within a radius. Default: "
                         f"{said}."),
            click.option("--neighbors", "-k", type=click.IntRange(min=1), default=3, show_default=True,
                         help="Neighbors of each word."),
            click.option("--radius", "-r", type=click.FloatRange(min=0),
                         help="For --graph radius, in the measure's unit. Influence: a length in nats above 0, shorter "
                         "than ln 2 = 0.69 where two words move each other more than was to be expected."),
        ]
        for option in reversed(options):
            command = option(command)
        return command

    return add


normalization_option = click.option(
    "--normalization", type=click.Choice(NORMALIZATIONS),
    help="For influence: what makes the weight w of two words, whose length is ln((1 + w) / w). distance (the "
    "default): how much more they move each other than is usual so far apart. rows, symmetric, product: shares of a "
    "word's influence. none: influence as it is.",
)


attention_option = click.option(
    "--attention", "-a", default="average", show_default=True, metavar="WHICH",
    help="average (the heads of the layer's block), rollout, flow, or head:B.H for head H of block B, counted from 1.",
)
permutations_option = click.option(
    "--permutations", type=click.IntRange(min=1), default=999, show_default=True, help="Of the permutation tests."
)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything random."
)
