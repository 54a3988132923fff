"""Jensen-Shannon distance: it compares two distributions with their mixture, which few families can name."""

from __future__ import annotations

import numpy as np

from infogeo import _kernels
from infogeo._checks import FloatArray
from infogeo._terms import log_ratio
from infogeo.distances import jensen_shannon_distance
from infogeo.families import (
    Bernoulli,
    Beta,
    Binomial,
    CenteredGaussian,
    DiagonalGaussian,
    Dirichlet,
    Exponential,
    Family,
    Gamma,
    Gaussian,
    Geometric,
    InverseGaussian,
    IsotropicGaussian,
    LogNormal,
    LowRankGaussian,
    Multinomial,
    PointMass,
    Poisson,
    SharedCovarianceGaussian,
    VonMisesFisher,
    Weibull,
)

METRICS = "hellinger_distance is a bounded metric too"


@jensen_shannon_distance.register(Bernoulli, scratch=64)
def _bernoulli(p: Bernoulli, q: Bernoulli) -> FloatArray:
    difference = p.prob - q.prob
    gaps = log_ratio(p.prob, q.prob, difference), log_ratio(1 - p.prob, 1 - q.prob, -difference)
    with np.errstate(divide="ignore"):
        logs = [np.stack(np.broadcast_arrays(np.log(x.prob), np.log1p(-x.prob)), axis=-1) for x in (p, q)]
    return np.asarray(np.sqrt(_kernels.jensen_shannon_terms(*logs, gap=np.stack(gaps, axis=-1)).sum(axis=-1)))


_REASONS: dict[type[Family], str] = dict.fromkeys(
    (
        Beta, CenteredGaussian, DiagonalGaussian, Dirichlet, Exponential, Gamma, Gaussian, InverseGaussian,
        IsotropicGaussian, LogNormal, LowRankGaussian, SharedCovarianceGaussian, VonMisesFisher,
    ),
    f"the entropy of a mixture of two densities has no closed form; {METRICS}",
)  # fmt: skip
_REASONS |= dict.fromkeys((Geometric, Multinomial, Poisson), f"its sum over all counts has no closed form; {METRICS}")
_REASONS |= {
    Binomial: "it is a sum over all counts: use Categorical.from_logits(x[..., None].log_prob(range(trials + 1))) of "
    "both, or hellinger_distance",
    PointMass: "it is the same for any two different points; use euclidean_distance",
    Weibull: "the entropy of a mixture of two densities has no closed form; use kl_divergence",
}
for _family, _reason in _REASONS.items():
    jensen_shannon_distance.refuse(_family, _reason)
