"""Where the rules of the diagnosis draw their lines, with the reason and the source of each."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from infogeo._checks import check_number
from infogeo.errors import ArgumentError


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """The thresholds of the rules; a value beyond its threshold speaks for a finding.

    Each rule is monotone in its thresholds: moving one to the strict side can only take findings of that rule away.
    Sources are named in full by :data:`~infogeo.RULES`.
    """

    persistence: float = 2.0
    """Records in a row that have to show what noise alone could show once. A single checkpoint has only one."""

    # how the model is built
    order_sensitivity: float = 1e-4
    """Below it a state does not depend on the order of earlier tokens. Without positions what remains is rounding of
    sums taken in another order, 1e-6 to 1e-5 of the change that other tokens make; untrained positions of any kind
    make 0.01 and more (Haviv et al. 2022)."""
    future_sensitivity: float = 1e-4
    """Above it a state depends on later tokens. Behind a mask that works it is zero but for rounding (Vaswani et al.
    2017, section 3.2.3)."""
    scale_response: float = 0.5
    """Above it a block adds more when its input is doubled. Normalized input makes it zero but for the share that the
    attention of the block has in the input of its feed-forward part; without normalization it is one (Ba et al. 2016).
    """
    muted_carry: float = 0.2
    """Below it the input of a block does not come out of it when attention and feed-forward write nothing. With a
    residual stream it is 0.9 and more, 0.6 behind norms of uneven gains, without one zero (He et al. 2016)."""
    carry: float = 0.25
    """Below it (in size) the input of a block does not come out of it. A residual stream gives one before the
    normalization, a normalized sum of two equal parts 0.7, no residual about zero (He et al. 2016)."""
    large_carry: float = 0.5
    """Below it a block lets nothing of a large input through. With a residual stream and normalized parts it is one,
    without one it is below 0.01, so that the middle separates them."""
    large_carry_elsewhere: float = 0.5
    """Above it in some block, blocks of the model do not normalize what they return, and can be judged by that."""
    carry_contribution: float = 3.0
    """What a block adds over its input, above which it is not judged by what it carries: any likeness of the two then
    outweighs the input itself, as in a first block behind small embeddings."""
    contribution: float = 1e-3
    """Below it a block adds nothing. Blocks of trained models add 0.05 to 2 times their input; the least useful layers
    of large models still some hundredths (Men et al. 2024)."""
    twin: float = 0.99
    """Cosine above which two blocks hold the same weights. Independent ones of d weights have a cosine about
    one over the root of d, less than 0.01 (Lan et al. 2020 share weights on purpose)."""

    # what flows through it
    collapsed_cosine: float = 0.995
    """Mean cosine of states above which tokens can hardly be told apart: what differs is less than 0.5 % of their
    squared norm. Last layers of healthy models are known to reach 0.9 and more (Ethayarajh 2019)."""
    token_similarity: float = 0.9
    """Mean cosine of the tokens of one text, what all texts share taken away, above which they are one (Shi et al.
    2022 find 0.6 and more at the last layers of BERT without that centering)."""
    signal_growth: float = 30.0
    """Factor of the norm of states across one block, but for the first, above which the signal explodes; sums of
    normalized parts grow like the root of the depth (Xiong et al. 2020)."""
    signal_growth_first: float = 1000.0
    """The same across the first block. Embeddings are small where nothing keeps them large: the first block of the
    bundled model, which is healthy, makes the norm 150 times as large."""
    signal_rise: float = 1e4
    """Factor by which the norm of states may rise over that of the first record of the run. Models that normalize what
    they read learn well with states of any size; those of the bundled model rose by about 2000."""
    signal_loss: float = 0.03
    """Factor of the norm of states across one block below which the signal vanishes (Glorot and Bengio 2010)."""
    headroom: float = 8.0
    """Largest number of a 16-bit format over the largest component, below which the next spike overflows: three
    doublings (Micikevicius et al. 2018; in float16 the largest number is 65504)."""
    dead_units: float = 0.9
    """Share of feed-forward units that are off on all tokens of the probe batch (Lu et al. 2020)."""
    saturated_units: float = 0.7
    """Share of activations of units at a bound of their activation function, where no gradient passes (Glorot and
    Bengio 2010, section 3)."""

    # gradients
    gradient_norm: float = 100.0
    """Norm of the gradient of a loss in nats above which it explodes; it is about 0.1 to 10 in runs that learn, and is
    commonly clipped at 1 (Pascanu et al. 2013)."""
    gradient_growth: float = 30.0
    """Norm of the gradient over what is usual in the run: the lowest of the medians of all records before one, of
    which there are three at least."""
    gradient_least: float = 1.0
    """Norm of the gradient up to which growth does not count: where the loss is almost zero the usual gradient is, too,
    and a single text that is not known yet has a thousand times that. Norms up to one are not even clipped."""
    gradient_loss: float = 1e-3
    """Norm of the gradient of a block over the largest of the blocks, below which nothing gets there (Glorot and
    Bengio 2010, Noci et al. 2022)."""

    # attention
    uniform_attention: float = 0.9995
    """Entropy, as a share of the highest, above which all heads of a block spread attention evenly. Small untrained
    models have 0.9999, and are below 0.999 once they have learned something (Noci et al. 2022 on why queries and keys
    may get no gradient)."""
    learned_share: float = 0.15
    """Share of the entropy of the targets by which the loss has to be below it for a model to have learned more than
    frequencies; of the log of the vocabulary where that entropy is not known, as of a checkpoint."""
    collapsed_attention: float = 0.1
    """Mean entropy over the heads of a block, as a share of the highest, below which attention collapsed onto single
    tokens. Single heads of healthy models do that, whole blocks do not (Zhai et al. 2023)."""
    attention_logits: float = 20.0
    """Largest logits of attention, in the mean over queries and heads, that have to go with collapsed attention: a
    head that looks at one token needs about ten (Zhai et al. 2023 bound the entropy by the logits)."""
    head_output: float = 0.01
    """What a head adds, over the mean of the heads of its block, below which it is dead. Heads can often be taken away
    without harm (Michel et al. 2019), but they write something."""

    # steps
    update_ratio_high: float = 0.05
    """Change of the weights of a block in a step over their norm, median over blocks, above which a step is too long
    in itself; about 0.001 is usual (CS231n), small models learn well with up to 0.01."""
    update_ratio_raised: float = 0.02
    """The same, above which it explains a loss that rises or rests, or attention that collapses: twenty times the
    usual. Small models that learn well reach 0.013 at the end of a warm-up."""
    loss_rise: float = 0.1
    """Rise of the loss over its lowest earlier level, as a share of the entropy of the targets (of that level where it
    is not known), above which a run moves away from what it had learned."""
    update_ratio_low: float = 3e-4
    """Median over blocks below which, with no progress to show, steps are too short (CS231n: about 1e-3)."""
    slow_progress: float = 0.95
    """Loss over the entropy of the targets, above which the frequencies of tokens are not learned or nothing beyond
    them."""
    progress: float = 0.1
    """Share of its first value by which the loss has fallen, above which short steps are no fault: fine-tuning takes
    small rates, and still moves."""
    untrained_ratio: float = 0.01
    """Change of the weights of a block in a step, over their norm and over the median of the other blocks, below which
    the block does not train; layers of a healthy model differ by factors of two to ten."""
    unmoved: float = 0.0
    """Share of the tensors of a block that steps may leave as they are. None: an optimizer moves what it has."""
    frozen_on_purpose: float = 0.4
    """Share of the tensors of a block which, if more than that are left as they are in every block, looks as if it was
    meant so: adapters beside frozen weights. Findings are then warnings."""

    # data
    plateau_level: float = 0.97
    """Live loss over the entropy of the targets, one token at a time, above which nothing but frequencies is learned.
    Shuffled targets hold the loss at one."""
    plateau_excess: float = 0.1
    """Share of that entropy by which the loss may be above it and still be at it; a loss that rests far above it has
    not learned the frequencies either."""
    plateau_records: float = 3.0
    """Records in a row for which it has to stay there; models that learn also rest there for a while."""
    plateau_change: float = 0.015
    """Share of the entropy of the targets by which the loss may differ from that of the record before, and still count
    as resting."""
    plateau_movement: float = 0.2
    """Steps times their update ratio, summed up, after which a model should have left it: weights that went a fifth of
    their own norm."""
    target_information: float = 0.05
    """Share of the entropy of the targets by which the loss of the probe batch has to be below it to show that
    something was learned of the right targets."""
    target_mismatch: float = 0.25
    """Live loss less the loss of the probe batch, over the entropy of the targets, above which the live targets are
    not those that the model has learned. Dropout and the delay of a mean over steps make some hundredths."""
    batch_repetition: float = 0.9
    """Share of live batches that are among the eight before them, above which the data are constant."""
    constant_entropy: float = 0.02
    """Entropy of the targets over the log of the vocabulary below which they are constant."""
    leak_ratio: float = 0.5
    """Live loss over the loss of the probe batch below which the answer is in the input."""
    leak_unlearned: float = 0.85
    """Lowest loss of the probe batch so far over the entropy of the targets: above it nothing was learned that could
    explain a low live loss, as memorized texts would (Kaufman et al. 2012)."""

    answer_shown: float = 0.5
    """Share of the targets of live batches that stand in the input in their own place, above which they are told. Of
    masked tokens a tenth is kept as it is (Devlin et al. 2019), and some coincide; where tokens that are not masked are
    targets too, it is 0.85 and more."""
    gradient_carryover: float = 0.5
    """Share of the steps whose first backward pass found gradients of the step before, above which they are not cleared
    as a rule."""

    # the start
    initial_excess: float = 0.5
    """Nats by which the loss of an untrained model may exceed the log of the vocabulary; logits of variance v exceed it
    by v / 2, and usual starts have v below 0.3 (Karpathy 2019)."""
    initial_learned: float = 0.05
    """Share of the log of the vocabulary by which the loss has to be below it for a model to have been trained before;
    its attention and states are then not those of a start."""
    initial_growth: float = 8.0
    """Factor of the norm of states across one block of an untrained model, the first left out, since it outweighs small
    embeddings as a rule (He et al. 2015: it should stay)."""
    initial_contribution: float = 0.01
    """What a block of an untrained model adds over its input, median over blocks, below which weights are too small;
    usual starts have 0.04 (behind normalized embeddings) to 0.6."""
    initial_attention: float = 0.93
    """Entropy of attention of an untrained model, as a share of the highest, mean over a block: below it attention is
    sharp before it has learned where to look. Weights of deviation 0.02 give 0.98 and more up to a width of 1000; wide
    models need smaller weights, or a lower threshold."""
    initial_sharp_logits: float = 4.0
    """Largest logits of attention, mean over queries and heads, that have to go with it. Queries and keys that are
    normalized have logits of deviation one from the start (Henry et al. 2020), the largest of a thousand about 3.3."""
    initial_logits: float = 0.005
    """Largest logits of attention of an untrained model, mean over queries and heads, median over blocks, below which
    weights are too small; weights of deviation 0.02 give 0.05 at a width of 64, in proportion to it."""

    def __post_init__(self) -> None:
        for name in (f.name for f in dataclasses.fields(self)):
            value = check_number(name, getattr(self, name))
            if not value >= 0:
                raise ArgumentError(f"{name}: found {value}, wanted a number of at least 0")
            object.__setattr__(self, name, value)
        for name in ("persistence", "plateau_records"):
            if not 1 <= getattr(self, name) < float("inf"):
                raise ArgumentError(f"{name}: found {getattr(self, name)}, wanted a finite number of at least 1")

    def with_values(self, **values: float) -> Thresholds:
        """The same thresholds but for those given by name.

        Raises
        ------
        ArgumentError
            There is no threshold of that name, or a value is negative or NaN.
        """
        known = [f.name for f in dataclasses.fields(self)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ArgumentError(f"with_values: found {unknown[0]!r}, wanted some of {', '.join(known)}")
        return dataclasses.replace(self, **values)
