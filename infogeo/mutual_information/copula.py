"""Mutual information of variables with a normal copula: ranks instead of values."""

from __future__ import annotations

from numpy.typing import ArrayLike

from infogeo._units import Unit, per_nat
from infogeo.mutual_information._samples import normal_scores, read_together, say_constant, without_constants
from infogeo.mutual_information.gaussian import normal_information, say_spread


def gaussian_copula_mutual_information(
    x: ArrayLike, y: ArrayLike, *, bias_correction: bool = True, unit: Unit = "nats"
) -> float:
    r"""Mutual information of two variables with a normal copula, from the ranks of samples.

    Each column becomes the normal quantiles of its ranks, :math:`\Phi^{-1}(r / (n + 1))` with equal numbers at the
    mean of their ranks, and the result is that of :func:`gaussian_mutual_information`. No monotone map of a column
    changes it, whatever its tails. If the copula is not normal it is, in expectation and for two columns, no more than
    the information [1]_: a dependence that goes up and down again is not seen.

    Parameters
    ----------
    x, y : array_like, shape (n,) or (n, d)
        Samples; row i of both was observed together. Constant columns are left out: they carry no information.
    bias_correction : bool
        Whether the bias of normal samples is taken off; it is exact for those, and close for their ranks.
    unit : {"nats", "bits"}
        Unit of the result.

    Returns
    -------
    float

    Raises
    ------
    ShapeError
        If there is no sample, or x and y have different numbers of them.
    DomainError
        If a number is not finite, there are no more samples than columns, or the scores of a column are a linear
        combination of others, as for two columns in the same order.

    Warns
    -----
    EstimateWarning
        As :func:`gaussian_mutual_information`.

    References
    ----------
    .. [1] R. A. A. Ince et al., "A statistical framework for neuroimaging data analysis based on mutual information
       estimated via a Gaussian copula", Human Brain Mapping 38, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal(1000)
    >>> y = np.exp(x + rng.standard_normal(1000))
    >>> truth = 0.5 * float(np.log(2))
    >>> abs(gaussian_copula_mutual_information(x, y) - truth) < 0.05
    True
    """
    scale = per_nat(unit)
    x, y = (without_constants(z) for z in read_together(x=x, y=y))
    if say_constant(x=x, y=y):
        return 0.0
    value = normal_information(normal_scores(x), normal_scores(y), bias_correction=bias_correction)
    say_spread(len(x), x.shape[1], y.shape[1])
    return value * scale
