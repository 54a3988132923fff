"""Fitting a tuned lens: affine translators of all layers at once, from one forward pass for each batch of texts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from infogeo._checks import check_progress
from infogeo_adapters import _tuned_job as jobs
from infogeo_adapters._tuned_result import TunedLens
from infogeo_adapters._tuned_streams import Text
from infogeo_adapters.files import check_path, check_place
from infogeo_adapters.transformers.loading import LanguageModel
from infogeo_adapters.transformers.readout import MEMORY


def fit_tuned_lens(
    model: LanguageModel,
    texts: Sequence[Text],
    *,
    layers: Iterable[int] | None = None,
    window: int | None = None,
    steps: int = 500,
    batch_tokens: int = 2048,
    learning_rate: float = 0.05,
    validation_fraction: float = 0.1,
    evaluate_every: int = 50,
    tolerance: float = 1e-3,
    patience: int | None = None,
    seed: int = 0,
    memory: float = MEMORY,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> TunedLens:
    r"""Fit affine translators that turn each layer's states into predictions as near as can be to the final one.

    The logit lens reads a layer out as if it were the last. The tuned lens [1]_ first moves its states to where the
    last layer has them,

    .. math:: q_l = \mathrm{softmax}(U\,\mathrm{norm}(h_l + A_l h_l + b_l)), \qquad
              \min_{A_l, b_l} \; \mathrm{mean}_t \; \mathrm{KL}(p_t \,\|\, q_{l,t})

    with p the model's own prediction, norm and U its final norm and unembedding, which stay as they are, as all of the
    model does. A and b begin at zero, where the tuned lens is the logit lens. The last layer has no translator.

    Whole texts are held out. Of each layer the translator is kept that was best on them, so that it is never worse
    there than the plain lens.

    Parameters
    ----------
    model : LanguageModel
        A language model with a head. In a masked one nothing is masked, as in
        :func:`~infogeo_adapters.transformers.lens.logit_lens`: its prediction at a token is of the token itself. Of two
        stacks the decoder is meant.
    texts : sequence of str
        At least two different ones; cut a long text at its blank lines. A few hundred thousand tokens are enough for a
        width of some hundreds: a translator has d (d + 1) numbers. For an encoder-decoder model pairs (source, target).
    layers : iterable of int, optional
        Which layers get a translator, from 0 (embedding) to L - 1; all by default.
    window : int, optional
        Texts are cut into rows of at most so many tokens, special ones counted; by default 256, or the model's context
        if that is shorter. Pairs are not cut.
    steps : int
        Steps of the optimizer. The learning rate falls linearly to zero over them.
    batch_tokens : int
        Tokens in one step, and at most in one forward pass, padding counted.
    learning_rate : float
        By what share of their size the first step turns the states of a layer; it has no unit, see Notes.
    validation_fraction : float
        Share of the texts that is held out, at least one text. Equal texts are on one side.
    evaluate_every : int
        Steps between two looks at the held-out texts, after each of which the checkpoint is written.
    tolerance : float
        How much lower, relative to its best before, a layer's held-out divergence must fall to count as progress.
    patience : int, optional
        The training ends early after so many looks without progress of any layer. By default it never does: the last
        steps, at a falling rate, bring the most.
    seed : int
        Decides which texts are held out and in which order rows are seen. The same seed gives the same lens on one
        machine with the same number of threads.
    memory : float
        Bytes for the logits of one chunk of tokens and their work space. Beside these there are in memory the states
        of one batch, 4 (L + 1) d bytes for each token; the forward pass itself; and for each layer 7 d² numbers.
    checkpoint : path, optional
        A file for the unfinished training. If it is there, the training goes on from it, and ends with the same numbers
        as if it had not been stopped; that of another model, of other texts or settings is refused. It is left there,
        so that the same call gives the finished lens at once.
    progress : callable, optional
        Called as ``progress(done, total)`` with numbers of steps, as by
        :func:`~infogeo_adapters.progress.progress_bar`.

    Returns
    -------
    TunedLens
        To be given to ``logit_lens(model, text, lens=...)`` and :func:`~infogeo_adapters.lens_quality`.

    Raises
    ------
    TextError
        Fewer than two different texts, or one that is empty.
    ArgumentError
        An argument has no such value, or the checkpoint is of other work.
    FormatError
        The checkpoint is damaged.
    OutputError
        It cannot be written.
    ModelError
        The model has no head, or was changed while the lens was fitted.
    DomainError
        A layer holds NaN or infinity.
    ConvergenceError
        A divergence became infinite or NaN: the learning rate is too high. The error has the best lens so far.

    See Also
    --------
    lens_quality : the lens on texts that had no part in fitting it.

    Notes
    -----
    Where this departs from [1]_, which uses SGD with Nesterov momentum 0.9 at a rate of 1 and gradients clipped to norm
    1, on 250 steps of 262,144 tokens:

    1. The averaged gradient of [A c], with b = s c and s the root mean square of a layer's components, is replaced by
       the nearest matrix with orthonormal rows, as the optimizer Muon does [2]_. So a step turns the states by the same
       share of their size, whatever the width, the layer or the model; ``docs/tuned_lens.md`` compares.
    2. Far fewer tokens in a step by default, so that it runs on a laptop; raise ``batch_tokens`` and ``steps`` for the
       last few per cent.
    3. Of each layer the translator that was best on held-out texts is kept, and not the last.

    References
    ----------
    .. [1] N. Belrose et al., "Eliciting latent predictions from transformers with the tuned lens", arXiv 2303.08112,
       2023, section 3.
    .. [2] K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.

    Examples
    --------
    >>> from infogeo_adapters import load_model
    >>> texts = ["The dog ran home.", "The cat sat still.", "A bird sang in the tree.", "It was late."]
    >>> lens = fit_tuned_lens(load_model(), texts, steps=5)
    >>> lens.layers, lens.weights.shape
    ((0, 1, 2, 3, 4, 5), (6, 160, 160))
    """
    check_progress(progress)
    if checkpoint is not None:
        check_place(check_path("checkpoint", checkpoint))
    job = jobs.make_job(
        model, texts, layers=layers, window=window, steps=steps, batch_tokens=batch_tokens,
        learning_rate=learning_rate, validation_fraction=validation_fraction, evaluate_every=evaluate_every,
        tolerance=tolerance, patience=patience, seed=seed, memory=memory,
    )
    return jobs.run(job, checkpoint=checkpoint, progress=progress)
