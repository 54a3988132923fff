"""A text of any length read by a lens: in windows where it is longer than the context, the stages that there are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np

from infogeo.entropy_profile import EntropyProfile
from infogeo.errors import ArgumentError
from infogeo_adapters.transformers.alignment import check_text, encode
from infogeo_adapters.transformers.capture import split_into_windows
from infogeo_adapters.transformers.lens import logit_lens
from infogeo_adapters.transformers.lens_plan import readable_stages
from infogeo_adapters.transformers.loading import LanguageModel

ALL = "all"


def read_long_text(
    model: LanguageModel, text: str, *, target: str | None = None, stages: Sequence[str] = ("resid_post",),
    progress: Callable[[int, int], object] | None = None, **options: Any,
) -> tuple[EntropyProfile, list[str]]:
    """One profile of a whole text, and what a reader should know of how it came about.

    Parameters
    ----------
    model : LanguageModel
    text : str
        Cut into windows where it is longer than the context; no token sees an earlier window.
    target : str, optional
        As for :func:`infogeo_adapters.logit_lens`; there are no windows then.
    stages : sequence of str
        Or only ``all``: those that the model has.
    progress : callable, optional
        Called with the number of windows done and the number of windows.
    **options
        For :func:`infogeo_adapters.logit_lens`.

    Returns
    -------
    EntropyProfile
    list of str
        Notes.
    """
    text = check_text(text)
    notes: list[str] = []
    limit = model.context_length
    windows = [text]
    if target is None and limit is not None and len(encode(model.tokenizer, text).ids) > limit:
        windows = split_into_windows(model, text)
        notes.append(
            f"the text is longer than the context of {limit} tokens and was read in {len(windows)} windows; "
            "a token sees nothing of the windows before its own"
        )
    if [*stages] == [ALL]:
        stages, lacking = readable_stages(model, decoder=target is not None)
        notes += [
            f"without {stage}: {reason}" for stage, reason in lacking.items()
            if target is not None or "cross" not in stage
        ]
    profiles = []
    for i, window in enumerate(windows):
        profiles.append(logit_lens(model, window, target=target, stages=cast("Any", stages), **options))
        if progress is not None:
            progress(i + 1, len(windows))
    return join_profiles(profiles, text), notes


def join_profiles(profiles: Sequence[EntropyProfile], text: str) -> EntropyProfile:
    """Profiles of the windows of one text as one profile, window after window.

    The options of its source tell how many there are, and the first token of each.

    Raises
    ------
    ArgumentError
        If there is none, or they were read at different places.
    """
    if not profiles:
        raise ArgumentError("join_profiles needs at least one profile, got none")
    first = profiles[0]
    if len(profiles) == 1:
        return first
    if any(p.row_labels != first.row_labels or {*p.renyi} != {*first.renyi} for p in profiles):
        raise ArgumentError("join_profiles: the profiles were read at different places; read all with the same options")
    before = np.cumsum([0, *(len(p.words) for p in profiles[:-1])])

    def rows(name: str) -> Any:
        return np.concatenate([getattr(p, name) for p in profiles], axis=1)

    tokens = np.cumsum([0, *(len(p.tokens) for p in profiles[:-1])]).tolist()
    source = replace(first.source, text_hash=hashlib.sha256(text.encode()).hexdigest())
    return replace(
        first,
        **{name: rows(name) for name in (
            "entropy", "kl_to_final", "kl_to_next", "cross_entropy", "rank", "step_length", "top_ids",
            "top_probabilities",
        )},
        renyi={order: np.concatenate([p.renyi[order] for p in profiles], axis=1) for order in first.renyi},
        set_size=None if first.set_size is None else rows("set_size"),
        geodesic_length=np.concatenate([p.geodesic_length for p in profiles]),
        target_ids=np.concatenate([p.target_ids for p in profiles]),
        outcome_names={i: name for p in profiles for i, name in p.outcome_names.items()},
        tokens=tuple(token for p in profiles for token in p.tokens),
        words=tuple(word for p in profiles for word in p.words),
        token_words=np.concatenate([
            np.where(p.token_words < 0, -1, p.token_words + n) for p, n in zip(profiles, before, strict=True)
        ]),
        source=source.with_options(windows=len(profiles), window_starts=", ".join(str(n) for n in tokens)),
    )
