"""Families of probability distributions: frozen, batched dataclasses."""

from infogeo.families.base import Family as Family
from infogeo.families.categorical import Categorical as Categorical
from infogeo.families.discrete import Bernoulli as Bernoulli
from infogeo.families.discrete import Binomial as Binomial
from infogeo.families.discrete import Geometric as Geometric
from infogeo.families.discrete import Poisson as Poisson
from infogeo.families.gamma_family import Beta as Beta
from infogeo.families.gamma_family import Dirichlet as Dirichlet
from infogeo.families.gamma_family import Gamma as Gamma
from infogeo.families.gaussian import DiagonalGaussian as DiagonalGaussian
from infogeo.families.gaussian import Gaussian as Gaussian
from infogeo.families.gaussian import SharedCovarianceGaussian as SharedCovarianceGaussian
from infogeo.families.low_rank import LowRankGaussian as LowRankGaussian
from infogeo.families.multinomial import Multinomial as Multinomial
from infogeo.families.point_mass import PointMass as PointMass
from infogeo.families.positive import Exponential as Exponential
from infogeo.families.positive import InverseGaussian as InverseGaussian
from infogeo.families.positive import LogNormal as LogNormal
from infogeo.families.positive import Weibull as Weibull
from infogeo.families.special_normals import CenteredGaussian as CenteredGaussian
from infogeo.families.special_normals import IsotropicGaussian as IsotropicGaussian
from infogeo.families.von_mises_fisher import VonMisesFisher as VonMisesFisher
