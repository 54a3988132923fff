"""The checks of :func:`infogeo_adapters.inspect_model`, each a function of the model under examination."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from infogeo.errors import InfogeoError
from infogeo_adapters._doctor_patient import Patient
from infogeo_adapters._doctor_words import grouped, kinds_in_words, numbers_in_words, sums_in_words
from infogeo_adapters.doctor import Check, joined
from infogeo_adapters.transformers._stage_embeddings import find_embeddings
from infogeo_adapters.transformers.locks import lock_of
from infogeo_adapters.transformers.readout_search import CLOSE, EXACT
from infogeo_adapters.transformers.replay import run_noted
from infogeo_adapters.transformers.stack import (
    Side,
    evaluating,
    padded_probe,
    rounding,
    run_probe,
    runner,
)
from infogeo_adapters.transformers.tokenizing import UNLIMITED

if TYPE_CHECKING:
    import torch

SHOWN_HASH = 16
"""Figures of the hash that the line shows; the values hold all."""
MASKED = 12
"""Most tokens of the sample that are masked."""
BY_NATURE = (
    "token_embedding", "position_embedding", "rotated_query", "rotated_key",
    "cross_query", "cross_key", "cross_value", "cross_attention_output", "resid_cross",
)
"""Stages that many models do not have by their design."""


def weights(patient: Patient) -> Check:
    """How many parameters, in which format, where, and their hash."""
    count = sum(p.numel() for p in patient.net.parameters())
    source = patient.model.current_source()
    return Check(
        name="weights",
        found=f"{count:,} parameters in {source.dtype} on {patient.net.device}, "
        f"SHA-256 {(source.content_hash or 'unknown')[:SHOWN_HASH]}",
        values={"parameters": count, "dtype": source.dtype, "device": str(patient.net.device),
                "content_hash": source.content_hash},
    )


def blocks(patient: Patient) -> Check:
    """Where the blocks are, how many run, and the width of the stream, in each stack."""
    said: list[str] = []
    values: dict[str, Any] = {"kind": patient.model.kind}
    for side, stack in patient.stacks.items():
        list_of_blocks = runner(patient.net, side).get_submodule(stack.path)
        path = next(name for name, module in patient.net.named_modules() if module is list_of_blocks)
        width = int(_probe(patient, side)[0].shape[-1])
        shared = len(list(list_of_blocks.children()))
        said.append(
            f"{f'{side} ' if side else ''}{path}: {stack.depth} blocks of width {width}"
            + (f" ({shared} modules, shared)" if shared < stack.depth else "")
        )
        values[side or "stack"] = {"path": path, "depth": stack.depth, "width": width, "modules": shared}
    return Check(name="blocks", found=joined([patient.model.kind, *said]), values=values)


def causal(patient: Patient) -> Check:
    """How much a token's state depends on a later token."""
    import torch

    said: list[str] = []
    values: dict[str, Any] = {}
    for side, stack in patient.stacks.items():
        ids, _ = padded_probe(patient.net)
        ids = ids[1:]
        changed = torch.cat([ids[:, :-1], ids[:, :1]], dim=1)
        ones = torch.ones_like(ids)
        with lock_of(patient.net), evaluating(patient.net):
            before = run_probe(patient.net, stack, ids, ones)[0]
            after = run_probe(patient.net, stack, changed, ones)[0]
        change = float((after - before)[:, :, :-1].abs().max() / before.abs().max())
        said.append(
            (f"{side}: " if side else "") + ("no token sees a later one" if stack.causal else "tokens see later ones")
            + f" (another last token changes the others by {change:.2g} of the largest state)"
        )
        values[side or "stack"] = {"causal": stack.causal, "change": change}
    return Check(name="causal", found=joined(said), values=values)


def context(patient: Patient) -> Check:
    """The context length, and who says so."""
    net, tokenizer = patient.net, patient.model.tokenizer
    config = net.config if net.config.is_encoder_decoder else net.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    positions = positions if isinstance(positions, int) and positions > 0 else None  # XLNet says -1
    limit = tokenizer.model_max_length
    length = patient.model.context_length
    sources = [
        f"config: max_position_embeddings {positions}" if positions else "config: no limit",
        f"tokenizer: model_max_length {limit}" if 0 < limit < UNLIMITED else "tokenizer: no limit",
    ]
    rows = _position_rows(patient)
    reason = None
    if rows is not None and length is not None and rows < length:
        reason = (
            f"the table of positions ends after {rows} tokens, so that a text of {length} cannot be run: put {rows} "
            "into the configuration (max_position_embeddings), or into the tokenizer (model_max_length)"
        )
    return Check(
        name="context", reason=reason,
        found=f"{'without limit' if length is None else f'{length} tokens'} ({', '.join(sources)})",
        values={"length": length, "config": positions, "tokenizer": limit if 0 < limit < UNLIMITED else None,
                "table": rows},
    )


def read_out(patient: Patient) -> Check:
    """The final norm and the head."""
    found = patient.readout
    return Check(
        name="read-out",
        found=f"{', '.join((*found.path, *found.scalings))} in {found.dtype}, predicts "
        + ("the next token" if found.predicts == "next" else "the token itself"),
        values={"path": found.path, "scalings": found.scalings, "predicts": found.predicts, "dtype": found.dtype},
    )


def self_check(patient: Patient) -> Check | None:
    """How far the read-out of the last state is from the model's own logits, on the sample."""
    import torch

    if not _reads(patient):
        return None
    with patient.readout.session() as project:
        replayed = project(patient.run.states).cpu().double()
    logits = patient.run.logits.cpu().double()
    difference, largest = float((replayed - logits).abs().max()), float(logits.abs().max())
    units = EXACT if patient.net.dtype.itemsize >= 4 else CLOSE
    allowed = units * torch.finfo(patient.net.dtype).eps * max(1.0, largest)
    reason = None
    if not difference <= allowed:
        reason = "what is read out is not what the model predicts; pass readout= to the lens, or report the model"
    return Check(
        name="self-check", reason=reason,
        found=f"read-out of the last state differs from the model's own logits by at most {difference:.2g} "
        f"(allowed {allowed:.2g}, largest logit {largest:.3g})",
        values={"difference": difference, "allowed": allowed, "largest_logit": largest},
    )


def head(patient: Patient) -> Check | None:
    """Rows of the head that belong to no token, and the probability that falls on them."""
    if not _reads(patient):
        return None
    log_probs = _log_probs(patient.run.logits)
    rows = log_probs.shape[1]
    used = np.zeros(rows, dtype=bool)
    used[[i for i in patient.model.tokenizer.get_vocab().values() if i < rows]] = True
    without = int((~used).sum())
    lost = float(np.exp(log_probs[:, ~used]).sum(axis=1).mean())
    tail = f", which take {100 * lost:.2g} % of the probability on the sample; leave them out with used_only"
    return Check(
        name="head",
        found=f"{rows:,} rows for {rows - without:,} tokens"
        + (f", {without:,} without a token{tail if lost > 0 else ''}" if without else ""),
        values={"rows": rows, "without_token": without, "probability_without_token": lost},
    )


def prediction(patient: Patient) -> Check | None:
    """The cross-entropy of the sample, of the next token or of tokens masked in turn, beside that of chance."""
    if not _reads(patient) or patient.net.config.is_encoder_decoder:
        return None
    masked = patient.readout.predicts != "next"
    losses = _masked_losses(patient) if masked else _next_losses(patient)
    if not len(losses):
        return None
    loss = float(np.mean(losses))
    chance = float(np.log(patient.run.logits.shape[-1]))
    reason = None
    if not loss < chance:
        reason = (
            "the sample is predicted no better than by chance: the weights, or those of the head, are not trained, the "
            "tokenizer belongs to another model, or the model reads another language (pass sample=)"
        )
    how = f", each of {len(losses)} masked in turn" if masked else ""
    return Check(
        name="prediction", reason=reason,
        found=f"cross-entropy of the sample {loss:.3g} nats a token{how}, chance {chance:.3g}",
        values={"cross_entropy": loss, "chance": chance, "tokens": len(losses)},
    )


def attention(patient: Patient) -> Check:
    """Maps that are given, what they are, how far their rows sum to one, and whether asking for them changes states."""
    from infogeo_adapters.transformers.capture import capture_activations

    text = patient.item.text
    plain = capture_activations(patient.model, text, attention=False).hidden_states
    acts = capture_activations(patient.model, text, attention=True)
    maps: list[tuple[str, Any, Any]] = [("", acts.attention, acts.attention_kinds)]
    if patient.net.config.is_encoder_decoder:
        from infogeo_adapters.transformers.capture import capture_encoder_decoder

        both = capture_encoder_decoder(patient.model, text, text)
        maps = [
            ("encoder ", both.encoder.attention, both.encoder.attention_kinds),
            ("decoder ", both.decoder.attention, both.decoder.attention_kinds),
            ("cross ", both.cross_attention, both.cross_attention_kinds),
        ]
    change = float(np.abs(acts.hidden_states - plain).max() / np.abs(plain).max())
    said = [
        which + (kinds_in_words(kinds) if kinds else f"{len(values)} maps of {values.shape[1]} heads")
        for which, values, kinds in maps
    ]
    sums = np.concatenate([values.astype(np.float64).sum(axis=-1).ravel() for _, values, _ in maps])
    low, high = float(sums.min()), float(sums.max())
    said.append(
        f"rows sum to {sums_in_words(low, high)}; hidden states change by {change:.2g} of the largest "
        "when it is captured"
    )
    return Check(
        name="attention", found=joined(said),
        values={
            "maps": sum(len(values) for _, values, _ in maps), "lowest_row_sum": low, "highest_row_sum": high,
            "change_of_states": change, "kinds": tuple(kind for _, _, kinds in maps for kind in kinds),
        },
    )


def stages(patient: Patient) -> Check:
    """Which stages inside the blocks are found."""
    from infogeo.stages import CROSS_STAGES, STAGES
    from infogeo_adapters.transformers.stages import capture_stages

    two = bool(patient.net.config.is_encoder_decoder)
    found = capture_stages(patient.model, patient.item.text, target=patient.item.text if two else None)
    depth = found.activations.n_layers
    wanted = [stage for stage in STAGES if two or stage not in CROSS_STAGES]
    there = {stage: found.blocks(stage) for stage in wanted}
    lacking = {stage: dict(found.absent[stage]) for stage in wanted if found.absent.get(stage)}
    none = [stage for stage in wanted if not there[stage]]
    parallel = not there["resid_mid"] and there["attention_output"] and there["feed_forward_output"]
    natural = [stage for stage in none if stage in BY_NATURE or (stage == "resid_mid" and parallel)]
    bad = [stage for stage in none if stage not in natural]
    partly = grouped(
        (f"only in blocks {numbers_in_words(list(there[stage]))} ({next(iter(lacking[stage].values()))})", stage)
        for stage in lacking if there[stage]
    )
    reasons = grouped((next(iter(lacking.get(stage, {}).values()), "no reason known"), stage) for stage in bad)
    return Check(
        name="stages",
        reason="not found: " + joined([f"{names} ({why})" for why, names in reasons.items()]) if bad else None,
        found=joined([
            f"{len(wanted) - len(none)} of {len(wanted)} in {depth} blocks",
            *(f"{names} {where}" for where, names in partly.items()),
            f"this model has no {', '.join(natural)}" if natural else "",
        ]),
        values={"found": {stage: tuple(blocks) for stage, blocks in there.items()}, "absent": lacking},
    )


def tokenizer(patient: Patient) -> Check:
    """The tokenizer beside the embeddings of the model."""
    found = patient.model.tokenizer
    table = found.get_vocab()
    rows = int(patient.net.get_input_embeddings().num_embeddings)
    return Check(
        name="tokenizer",
        found=f"{type(found).__name__}, {len(table):,} tokens with ids up to {max(table.values()):,} for "
        f"{rows:,} embeddings",
        values={"class": type(found).__name__, "tokens": len(table), "largest_id": max(table.values()),
                "embeddings": rows},
    )


def alignment(patient: Patient) -> Check:
    """Whether every word of the sample has tokens, and whether the tokens give the sample back."""
    item, found = patient.item, patient.model.tokenizer
    ids = item.tokens.ids[~item.tokens.special]
    unknown = 0 if found.unk_token_id is None else int((ids == found.unk_token_id).sum())
    covered = len({*item.table.tolist()} - {-1})
    again = str(found.decode(ids.tolist(), clean_up_tokenization_spaces=False)).strip()
    if again == item.text.strip():
        trip = "decoding gives the text back"
    elif "".join(again.lower().split()) == "".join(item.text.lower().split()):
        trip = "decoding gives the text back but for case and spaces"
    else:
        trip = f"decoding gives another text ({again[:24]!r}...)"
    reason = None
    if 2 * unknown > len(ids):
        reason = "most of the sample is unknown to the tokenizer; it may belong to another language (pass sample=)"
    return Check(
        name="alignment", reason=reason,
        found=f"{covered} of {len(item.spans)} words of the sample covered by {len(item.tokens.ids)} tokens, "
        f"{int(item.tokens.special.sum())} of them special, {unknown} unknown; {trip}",
        values={"words": len(item.spans), "covered": covered, "tokens": len(item.tokens.ids), "unknown": unknown,
                "decoded": again, "round_trip": again == item.text.strip()},
    )


def padding(patient: Patient) -> Check:
    """Whether a padded text gives the same states as alone, padded on the right and on the left."""
    from infogeo_adapters.transformers.forward import padding_differences

    found = padding_differences(patient.model)
    allowed = rounding(patient.net)
    numbers = {side: value for side, value in found.items() if not isinstance(value, str)}
    bad = [side for side, value in numbers.items() if not value <= allowed]
    # a capture pads on the right, and runs texts of equal length together where that is not exact
    untold = [f"{side}: {value}" for side, value in found.items() if isinstance(value, str)]
    reasons = [f"padding on the {side} changes what the model computes" for side in bad]
    return Check(
        name="padding",
        found=joined([
            "states change by at most " + ", ".join(f"{value:.2g} ({side})" for side, value in numbers.items())
            + f" of the largest (allowed {allowed:.2g})",
            *(f"not on the {said}" for said in untold),
        ]),
        reason=joined(reasons) + "; infogeo itself pads on the right, and only where that changes nothing"
        if reasons else None,
        values={**found, "allowed": allowed},
    )


CHECKS: Mapping[str, Callable[[Patient], Check | None]] = {
    "weights": weights, "blocks": blocks, "causal": causal, "context": context, "read-out": read_out,
    "self-check": self_check, "head": head, "prediction": prediction, "attention": attention, "stages": stages,
    "tokenizer": tokenizer, "alignment": alignment, "padding": padding,
}
"""In the order they are shown; None is for a check that does not apply."""


def _probe(patient: Patient, side: Side | None) -> torch.Tensor:
    ids, mask = padded_probe(patient.net)
    with lock_of(patient.net), evaluating(patient.net):
        return run_probe(patient.net, patient.stacks[side], ids, mask)[0]


def _reads(patient: Patient) -> bool:
    """Whether there is a read-out; why not is told by its own check."""
    try:
        return bool(patient.readout)
    except InfogeoError:
        return False


def _next_losses(patient: Patient) -> Any:
    """The surprise at each token of the sample but special ones, in nats."""
    tokens = patient.item.tokens
    asked = np.flatnonzero(~tokens.special[1:])
    return -_log_probs(patient.run.logits)[asked, tokens.ids[1:][asked]]


def _masked_losses(patient: Patient) -> list[float]:
    """The surprise at tokens of the sample, each masked while the others are shown; none if masks mean nothing."""
    import torch

    mask, tokens = patient.model.tokenizer.mask_token_id, patient.item.tokens
    if mask is None or not type(patient.net).__name__.endswith("ForMaskedLM"):
        return []
    own = np.flatnonzero(~tokens.special)
    found = []
    for place in own[:: -(-len(own) // MASKED) or 1].tolist():
        ids = torch.as_tensor(tokens.ids, device=patient.net.device)[None].clone()
        ids[0, place] = mask
        with lock_of(patient.net), evaluating(patient.net):
            run = run_noted(patient.model, patient.stacks[patient.sides[-1]], ids)
        found.append(float(-_log_probs(run.logits)[place, tokens.ids[place]]))
    return found


def _position_rows(patient: Patient) -> int | None:
    """Tokens that the tables of positions have a row for; None where there is no table."""
    import torch

    found = []
    for side in patient.sides:
        path = find_embeddings(patient.net, side).paths.get("position_embedding")
        table = None if path is None else runner(patient.net, side).get_submodule(path)
        if isinstance(table, torch.nn.Embedding):
            first = getattr(table, "offset", 0)  # OPT, BART and their kin leave rows free
            found.append(table.num_embeddings - (first if isinstance(first, int) else 0))
    return min(found, default=None)


def _log_probs(logits: torch.Tensor) -> Any:
    return logits.double().log_softmax(dim=-1).cpu().numpy()
