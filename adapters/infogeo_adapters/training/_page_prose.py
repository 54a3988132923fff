"""The sentences of the page on a diagnosis that do not depend on its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infogeo._diagnosis_result import Diagnosis

LEAD = (
    "What infogeo measured of this model while it trained, what rules with stated thresholds found wrong in it, and "
    "what was not checked."
)
LEAD_OF_ONE = (
    "What infogeo measured of one state of this model, what rules with stated thresholds found wrong in it, and what "
    "cannot be told without a history of its training."
)
LEAD_OF_TWO = (
    "What infogeo measured of two runs or two states of a model, each at its last record, and what rules with stated "
    "thresholds found wrong in one of them or in both."
)
NOTHING_IN_BOTH = "Nothing was found in either of the two."
MOST = (
    "Of each quantity the place where the two differ by the largest factor, the largest first (of shares with a "
    "hundredth added to both). Layer 0 is the embedding; quantities of the whole model have no layer."
)
SIDE_BY_SIDE = (
    "Each quantity from layer to layer, of heads the mean over the block. The gray broken line is {first}, the blue "
    "one {second}."
)
FOUND = (
    "Each finding has a number, which marks it in orange in the figures that it is about. Faults come first, then what "
    "was seen first; what follows from another finding stands below it."
)
LAYERS_AS = "Layer 0 is the embedding; of heads there stands the mean over the block."
LAYERS_MARKED = "A number is orange if a finding that was seen up to there is about it."
LOSS = "A dotted line stands at the step where a finding was first seen."
PLANE = (
    "Each path is a layer, its number at the end; light dots are early steps, dark ones late. To the right a layer "
    "knows more of the input, upwards more of what is to be predicted, by matrix-based mutual information."
)
PLANE_MARKED = "Layers that have a finding have an orange path, and a ring where it was first seen."
PLANE_OF_ONE = (
    "The path goes through the layers, which have their numbers. To the right a layer knows more of the input, upwards "
    "more of what is to be predicted, by matrix-based mutual information."
)
PLANE_OF_ONE_MARKED = "Layers that have a finding are orange."
CAPACITY = (
    "How much information a block lets pass as a channel with normal noise, and the share of it that the actual input "
    "uses."
)
CAPACITY_MARKED = "An orange frame says which block has a finding, and from which to which step."
CAPACITY_OF_ONE_MARKED = "Blocks with a finding are orange."
ATTENTION = (
    "Near 1 (dark) a head spreads its attention evenly over all tokens in sight, near 0 (light) it looks at one token."
)
ATTENTION_MARKED = "An orange frame is around what a finding on attention is about."
TOO_MANY_HEADS = "There are too many heads for a row each: the mean over the heads of each block is drawn."
SERIES = (
    "A line is a layer, light ones are early layers and dark ones late; of heads it is the mean over the block."
)
SERIES_MARKED = (
    "A layer with a finding about the quantity is orange, with a dotted line where it was first seen."
)
SERIES_OF_ONE = "From layer to layer; of heads it is the mean over the block."
SERIES_OF_ONE_MARKED = "A layer with a finding about the quantity is orange."
AS_BEFORE = "As for finding {name}."
ZERO = "Zero throughout, so not drawn: {names}."
NUMBERS = "One number each, so not drawn: {names}."
NOT_CHECKED = "These rules need what was not measured. Nothing is said about what they look for."
MISSING = "These quantities cannot be measured of this model."
PROVENANCE = "The files hold every number of this page."

GROUPS: Mapping[str, tuple[str, ...]] = {
    "The signal through the layers": (
        "state_norm", "mean_cosine", "token_similarity", "anisotropy", "effective_rank", "matrix_entropy",
        "differential_entropy", "headroom", "nonfinite",
    ),
    "Information and prediction": (
        "input_information", "target_information", "lens_loss", "lens_entropy", "path_length",
    ),
    "What blocks do": (
        "rate", "contribution", "carry", "large_carry", "muted_carry", "scale_response", "dead_units",
        "saturated_units", "twin",
    ),
    "Attention": ("attention_entropy", "attention_logits", "attention_capacity", "head_output"),
    "Gradients and steps": (
        "learning_rate", "gradient_norm", "gradient_norm_block", "fisher_trace", "gradient_snr", "weight_norm",
        "update_ratio", "unmoved", "gradient_carryover",
    ),
    "Order, mask and data": (
        "order_sensitivity", "future_sensitivity", "batch_repetition", "answer_shown", "target_entropy",
    ),
}
"""The small figures, by what they are about; all other quantities have a figure of their own above them."""

ALL_GROUPS: Mapping[str, tuple[str, ...]] = {
    "Capacity of the blocks": ("capacity", "utilization"), **GROUPS,
}
"""The same with those that have a figure of their own on the page of one run."""

SHORT: Mapping[str, str] = {
    "state_norm": "norm", "effective_rank": "rank", "mean_cosine": "cosine", "token_similarity": "alike",
    "target_information": "I(T;Y)", "input_information": "I(X;T)", "lens_loss": "lens", "contribution": "adds",
    "capacity": "capacity", "utilization": "used", "attention_entropy": "attn", "dead_units": "dead",
    "gradient_norm_block": "grad", "update_ratio": "update",
}
"""Short names of the columns of the table of layers."""


def nothing(checked: int) -> str:
    """That so many rules found nothing."""
    if checked < 2:
        return "The rule that was checked found nothing." if checked else "No rule could be checked."
    return f"None of the {checked} rules that were checked found anything."


def layers_of(diagnosis: Diagnosis) -> str:
    """Of which record the table of layers is."""
    if diagnosis.layer_step is None or diagnosis.layer_step == diagnosis.steps[-1]:
        return f"What was measured at the last record (step {diagnosis.steps[-1]:,})."
    return (
        f"What was measured at step {diagnosis.layer_step:,}, the last record with numbers; that of step "
        f"{diagnosis.steps[-1]:,} has none."
    )


def note_of(diagnosis: Diagnosis) -> str:
    """What a note is called: of a single state there was no monitor."""
    return "Note" if len(diagnosis.steps) < 2 else "Note of the monitor"
