"""Families of probability distributions: frozen, batched dataclasses."""

from infogeo.families.base import Family as Family
from infogeo.families.categorical import Categorical as Categorical
from infogeo.families.gaussian import DiagonalGaussian as DiagonalGaussian
from infogeo.families.gaussian import Gaussian as Gaussian
from infogeo.families.gaussian import SharedCovarianceGaussian as SharedCovarianceGaussian
from infogeo.families.point_mass import PointMass as PointMass
