"""The logit lens: what a model would predict if it stopped at each stage of each layer, and how sure it would be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np
from numpy.typing import NDArray

from infogeo._checks import FloatArray, IntArray, check_count
from infogeo.activations import EncoderDecoderActivations, LayerActivations
from infogeo.entropy_profile import BRANCHES, STATES, EntropyProfile
from infogeo.errors import ArgumentError, DomainError
from infogeo.stages import StageActivations
from infogeo_adapters.transformers.arguments import check_model
from infogeo_adapters.transformers.capture import capture_activations, capture_encoder_decoder
from infogeo_adapters.transformers.forward import Overflow, prepare_all, run_items
from infogeo_adapters.transformers.lens_plan import (
    LENS_STAGES,
    LensStage,
    Plan,
    Translator,
    make_plan,
    named_stages,
    several,
    targets_of,
)
from infogeo_adapters.transformers.lens_statistics import Found, Wanted, statistics_of
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.readout import MEMORY, ReadOut, UserReadOut, find_readout, readout_for

if TYPE_CHECKING:
    import torch

Captured = LayerActivations | StageActivations | EncoderDecoderActivations
OneText = str | LayerActivations | StageActivations | EncoderDecoderActivations


@overload
def logit_lens(  # type: ignore[overload-overlap]  # a str is a sequence of str, but one text
    model: LanguageModel, text: OneText, *, target: str | None = ...,
    stages: LensStage | Literal["all"] | Sequence[LensStage] = ..., lens: Translator | None = ..., compare: bool = ...,
    renyi: float | Sequence[float] = ..., top_p: float | None = ..., top_k: int = ..., used_only: bool = ...,
    readout: ReadOut | UserReadOut | None = ..., memory: float = ..., overflow: Overflow = ..., batch_tokens: int = ...,
) -> EntropyProfile: ...


@overload
def logit_lens(
    model: LanguageModel, text: Sequence[OneText], *, target: Sequence[str] | None = ...,
    stages: LensStage | Literal["all"] | Sequence[LensStage] = ..., lens: Translator | None = ..., compare: bool = ...,
    renyi: float | Sequence[float] = ..., top_p: float | None = ..., top_k: int = ..., used_only: bool = ...,
    readout: ReadOut | UserReadOut | None = ..., memory: float = ..., overflow: Overflow = ..., batch_tokens: int = ...,
) -> list[EntropyProfile]: ...


def logit_lens(
    model: LanguageModel,
    text: OneText | Sequence[OneText],
    *,
    target: str | Sequence[str] | None = None,
    stages: LensStage | Literal["all"] | Sequence[LensStage] = "resid_post",
    lens: Translator | None = None,
    compare: bool = True,
    renyi: float | Sequence[float] = (),
    top_p: float | None = None,
    top_k: int = 1,
    used_only: bool = False,
    readout: ReadOut | UserReadOut | None = None,
    memory: float = MEMORY,
    overflow: Overflow = "error",
    batch_tokens: int = 4096,
) -> EntropyProfile | list[EntropyProfile]:
    r"""Read the prediction out at every layer, stage and token of a text.

    .. math:: p_{l,t} = \mathrm{softmax}(U\,\mathrm{norm}(x_{l,t})), \qquad
              H_{l,t} = -\sum_v p_{l,t}(v) \log p_{l,t}(v), \qquad
              H_{\alpha} = \frac{1}{1 - \alpha} \log \sum_v p(v)^\alpha

    with x the residual stream after block l (l = 0: the embedding) or another stage of the block, norm and U the
    model's own final norm, computed afresh each time, and unembedding [1]_, [2]_. The last layer gives the model's own
    prediction. Beside entropies there are the divergences to the final and to the next prediction, cross-entropy and
    rank of the true token, and the Fisher–Rao length of the path from prediction to prediction [3]_. In a masked
    language model nothing is masked here: the prediction at a token is of the token itself, which the model sees.
    Of an encoder-decoder model the decoder is read.

    Parameters
    ----------
    model : LanguageModel
        A causal, masked or encoder-decoder language model, the one the activations were captured from.
    text : str, LayerActivations, StageActivations, EncoderDecoderActivations, or a sequence of them
        A text is captured first, without attention. Many texts are captured in batches and read one after the other.
    target : str or sequence of str, optional
        Of an encoder-decoder model the text that the decoder reads; ``text`` is the source then.
    stages : str or sequence of str
        ``resid_post`` (after each block, with the embedding before the first), ``resid_mid`` (after attention),
        ``attention_output`` and ``feed_forward_output`` (what these parts return, read out by itself), in decoders with
        cross attention ``resid_cross`` and ``cross_attention_output``; ``embedding`` alone. ``"all"`` takes those that
        the model has, or that were captured.
    lens : optional
        A tuned lens; by default states are read as they are.
    compare : bool
        Whether to compute divergences and distances between rows; without them these are NaN and it takes half the
        time beside the matrix products.
    renyi : float or sequence of float
        Orders of Rényi entropies, from 0 to infinity.
    top_p : float, optional
        Also count the fewest outcomes that together have at least this probability; it takes a sort of each row.
    top_k : int
        How many of the most probable outcomes to keep.
    used_only : bool
        Leave out the rows of the head that belong to no token of the tokenizer, as many models have some for
        padding. They carry probability, so the entropy changes; ``n_outcomes`` says how many are left.
    readout : callable or ReadOut, optional
        Used in place of the model's own, see :func:`~infogeo_adapters.transformers.readout.find_readout`; with
        ``find_readout(model, dtype="float64")`` norm, unembedding and statistics are in double precision.
    memory : float
        Bytes that the logits of one chunk of tokens may take.
    overflow : {"error", "truncate"}
        What to do with a text longer than the model's context.
    batch_tokens : int
        Most tokens in one batch when texts are captured.

    Returns
    -------
    EntropyProfile, or a list of them
        One for one text; for many a list in their order.

    Raises
    ------
    ModelError
        The model has no head, its read-out cannot be found, or no block has a stage that is asked for.
    ArgumentError
        The activations are another model's, or an argument has no such value. All but ``top_k`` beyond the number of
        outcomes is found before a text is run.
    TextError
        A text is empty or too long for the model.
    DomainError
        A logit is NaN or plus infinity, or all of a row are minus infinity.

    Notes
    -----
    A logit of minus infinity, as a read-out of one's own may give, rules its outcome out: it has probability zero, the
    Rényi entropy of order 0 does not count it, and a divergence to a prediction that rules out what the row's does not
    is infinite.

    For R rows, T tokens and V outcomes the limit is the matrix product, 2 R T V d operations. Logits are made for as
    many tokens at a time as fit ``memory``, at least one: the peak is the larger of ``memory`` and 4 R V bytes (in
    float32; twice that with ``used_only``), and 4 MB of work space, whatever T is; ``top_p`` takes some 16 bytes more
    for each logit of a tile.

    References
    ----------
    .. [1] nostalgebraist, "interpreting GPT: the logit lens", 2020.
    .. [2] R. Ali, F. Caso, C. Irwin, P. Liò, "Entropy-Lens", arXiv 2502.16570
       (there at the last token only); stages inside the block after Buonanno et al., arXiv 2507.15347.
    .. [3] On the simplex the Fisher–Rao distance is twice the angle between square roots: C. R. Rao, 1945.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> profile = logit_lens(load_model(), "The dog ran home.", renyi=2, top_k=3)
    >>> profile.predicts, profile.n_outcomes, profile.entropy.shape == (7, len(profile.tokens))
    ('next', 4096, True)
    >>> bool((profile.geodesic_length <= profile.path_length).all())
    True
    """
    one = isinstance(text, str | LayerActivations | StageActivations | EncoderDecoderActivations)
    texts: Sequence[Any] = [text] if one else several(text)
    targets = targets_of(target, texts, one=one)
    check_model(model)
    plan = make_plan(
        named_stages(model, stages, texts, decoder=targets is not None), lens, compare=compare, renyi=renyi,
        top_p=top_p, top_k=top_k, used_only=used_only, memory=memory,
    )
    reader = _Reader(model, plan, readout)
    profiles: dict[int, EntropyProfile] = {}
    for i, captured in _captured(model, texts, targets, plan, overflow, batch_tokens):
        profiles[i] = reader.read(captured)
    return profiles[0] if one else [profiles[i] for i in range(len(texts))]


def _captured(
    model: LanguageModel, texts: Sequence[Any], targets: Sequence[str] | None, plan: Plan, overflow: Overflow,
    batch_tokens: int,
) -> Iterator[tuple[int, Captured]]:
    """Activations of each text with its place, captured as late as possible."""
    if not isinstance(texts[0], str):
        yield from enumerate(texts)
        return
    two_stacks = model.kind == "encoder-decoder"
    if two_stacks and targets is None:
        raise ArgumentError(
            f"target: {model.name} is an encoder-decoder model, whose decoder predicts a target text from the source; "
            "give it with target="
        )
    if targets is not None and not two_stacks:
        raise ArgumentError(f"target: {model.name} has one stack only, which reads one text; leave target out")
    if plan.inside:
        from infogeo_adapters.transformers.stages import capture_stages

        more: dict[str, Any] = {} if targets is None else {"target": targets}
        found = capture_stages(
            model, list(texts), stages=[*plan.inside, "resid_post"], overflow=overflow, batch_tokens=batch_tokens,
            **more,
        )
        yield from enumerate(found)
    elif targets is not None:
        pairs = capture_encoder_decoder(
            model, list(texts), list(targets), attention=False, overflow=overflow, batch_tokens=batch_tokens
        )
        yield from enumerate(pairs)
    elif len(texts) == 1:
        yield 0, capture_activations(model, texts[0], attention=False, overflow=overflow, batch_tokens=batch_tokens)
    else:
        check_count("batch_tokens", batch_tokens, 1)
        items = prepare_all(model, texts, [None] * len(texts), overflow)
        yield from run_items(model, items, attention=False, batch_tokens=batch_tokens)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """One row of a profile."""

    layer: int
    stage: str
    states: NDArray[Any]
    shown: bool = True

    @property
    def order(self) -> tuple[int, int]:
        return self.layer, LENS_STAGES.index(cast("LensStage", self.stage))


class _Reader:
    """Reads out one text after another with the same model and plan."""

    def __init__(self, model: LanguageModel, plan: Plan, readout: ReadOut | UserReadOut | None) -> None:
        if not isinstance(model, LanguageModel):
            raise ArgumentError(f"model: found {type(model).__name__}, wanted what load_model(...) returns")
        self.model, self.plan, self.readout = model, plan, readout
        if readout is None or not isinstance(readout, ReadOut):
            find_readout(model, readout=readout)  # so that its errors come before a text is run
        if plan.lens is not None:
            plan.lens.check(model)
        self.used: IntArray | None = None
        if plan.used_only:
            self.used = np.asarray(sorted(set(model.tokenizer.get_vocab().values())), dtype=np.int64)

    def read(self, captured: Captured) -> EntropyProfile:
        acts, targets = _text_of(captured)
        found = readout_for(self.model, acts, self.readout)
        places = self._places(captured, acts)
        if targets is None:
            targets = _true_tokens(acts, found.predicts)
        with found.session() as project:
            parts, outcomes, used = self._statistics(project, places, targets, found.dtype)
        order = sorted((i for i, place in enumerate(places) if place.shown), key=lambda i: places[i].order)
        rows = [places[i] for i in order]
        joined = _joined(parts, order)
        top_ids = joined.pop("top_ids")
        if used is not None:
            top_ids = used[top_ids]
        names = np.unique(top_ids)
        return EntropyProfile(
            row_layers=np.asarray([place.layer for place in rows]), row_stages=tuple(place.stage for place in rows),
            top_ids=top_ids, outcome_names=dict(zip(names.tolist(), _names(self.model, names), strict=True)),
            **joined, top_p=self.plan.top_p, tokens=acts.tokens, token_words=acts.token_words, words=acts.words,
            target_ids=targets, predicts=found.predicts, n_outcomes=outcomes, n_layers=acts.n_layers,
            source=acts.source.with_options(
                lens="logit_lens" if self.plan.lens is None else self.plan.lens.name,
                readout=", ".join((*found.path, *found.scalings)), readout_dtype=found.dtype,
                used_only=self.plan.used_only, readout_max_difference=found.max_difference,
            ),
        )

    def _places(self, captured: Captured, acts: LayerActivations) -> list[_Place]:
        """The rows to compute: states of the stream in their order, the final one last, then branches."""
        plan = self.plan
        wanted = set(plan.stages) | ({"embedding"} if "resid_post" in plan.stages else set())
        last = acts.n_layers
        places = [
            _Place(layer=layer, stage="resid_post" if layer else "embedding", states=acts.hidden_states[layer],
                   shown=("resid_post" if layer else "embedding") in wanted)
            for layer in range(last + 1) if ("resid_post" if layer else "embedding") in wanted or layer == last
        ]
        if plan.inside:
            if not isinstance(captured, StageActivations):
                raise ArgumentError(
                    f"stages: {type(captured).__name__} holds no {plan.inside[0]}; give the text, or what "
                    "capture_stages(model, text) returns"
                )
            for stage in plan.inside:
                blocks = captured.blocks(stage)
                if not blocks:
                    captured.at(stage, 1)  # raises, with the reason why there is none
                for block in blocks:
                    states = captured.at(stage, block)
                    places.append(_Place(layer=block, stage=stage, states=states))
        places.sort(key=lambda place: (place.stage in BRANCHES, place.order))
        return places

    def _statistics(
        self, project: Callable[[torch.Tensor], torch.Tensor], places: list[_Place], targets: IntArray, dtype: str
    ) -> tuple[list[Found], int, IntArray | None]:
        """Statistics of chunks of tokens, the number of outcomes, and their ids if not all are used."""
        import torch

        plan, tokens, rows = self.plan, len(targets), len(places)
        number = getattr(torch, dtype)
        columns = project(self._states(places[:1], slice(0, 1), number)).shape[1]
        used = None if self.used is None else self.used[self.used < columns]
        outcomes = columns if used is None else len(used)
        if plan.top_k > outcomes:
            raise ArgumentError(f"top_k: found {plan.top_k}, but there are {outcomes} outcomes")
        position = np.full(columns, -1)
        position[np.arange(columns) if used is None else used] = np.arange(outcomes)
        known = (targets >= 0) & (targets < columns)
        true = np.where(known, position[np.where(known, targets, 0)], -1)
        wanted = Wanted(
            states=sum(place.stage in STATES for place in places),
            path=sum(place.stage in STATES for place in places if place.shown), compare=plan.compare,
            renyi=plan.renyi, top_p=plan.top_p, top_k=plan.top_k,
        )
        held = columns + (0 if used is None else outcomes)
        at_once = max(1, int(plan.memory // (rows * held * number.itemsize)))
        parts = []
        for start in range(0, tokens, at_once):
            here = slice(start, min(start + at_once, tokens))
            logits = project(self._states(places, here, number))
            if used is not None:
                logits = logits[:, torch.as_tensor(used, device=logits.device)]
            logits = logits.to(number).contiguous()  # which those of a model are
            part = statistics_of(logits.view(-1, rows, outcomes), true[here].tolist(), wanted)
            del logits  # before the next are made
            if not part.finite.all():
                row, token = np.argwhere(~part.finite)[0]
                raise DomainError(
                    f"read-out: the logits of token {start + token} at layer {places[row].layer} "
                    f"({places[row].stage}) hold NaN or plus infinity, or leave no outcome; the weights of the head or "
                    "the number format are at fault"
                )
            parts.append(part)
        return parts, outcomes, used

    def _states(self, places: list[_Place], here: slice, number: torch.dtype) -> torch.Tensor:
        """States of a few tokens at all rows, (tokens times rows, d), token by token."""
        import torch

        lens = self.plan.lens
        found = []
        for place in places:
            states = torch.from_numpy(np.array(place.states[here])).to(number)
            found.append(states if lens is None else lens.translate(place.layer, states).to(states))
        return torch.stack(found, dim=1).flatten(0, 1)


def _text_of(captured: Captured) -> tuple[LayerActivations, IntArray | None]:
    """The stack that predicts, and the true token of each prediction where the activations know it."""
    if isinstance(captured, EncoderDecoderActivations):
        return captured.decoder, captured.target_ids
    if isinstance(captured, StageActivations):
        return captured.activations, captured.target_ids
    return captured, None


def _true_tokens(acts: LayerActivations, predicts: str) -> IntArray:
    """(T,) the token that each prediction is of; -1 after the last one, and for special tokens predicted in place."""
    if predicts == "next":
        return np.append(acts.token_ids[1:], -1)
    return np.asarray(np.where(acts.special, -1, acts.token_ids))


def _joined(parts: list[Found], order: list[int]) -> dict[str, Any]:
    """Statistics of all chunks, tokens in a row, rows in the order of the model."""

    def together(name: str) -> NDArray[Any]:
        return np.asarray(np.concatenate([getattr(part, name) for part in parts], axis=1)[order])

    joined: dict[str, Any] = {
        name: together(name) for name in (
            "entropy", "kl_to_final", "kl_to_next", "cross_entropy", "rank", "step_length", "top_ids",
            "top_probabilities",
        )
    }
    joined["geodesic_length"] = np.concatenate([part.geodesic_length for part in parts])
    joined["renyi"] = {
        alpha: np.concatenate([part.renyi[alpha] for part in parts], axis=1)[order] for alpha in parts[0].renyi
    }
    joined["set_size"] = None if parts[0].set_size is None else together("set_size")
    return joined


def _names(model: LanguageModel, ids: FloatArray | IntArray) -> list[str]:
    """Tokens as the tokenizer names them; rows of the head without a token are named by their number."""
    names = model.tokenizer.convert_ids_to_tokens(ids.tolist())
    return [name if isinstance(name, str) else f"<unused {i}>" for name, i in zip(names, ids.tolist(), strict=True)]
