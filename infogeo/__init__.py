"""Information geometry for people who want to understand neural language models: the mathematics.

The geometry is imported at once, since its formulas register themselves; the information theory (capacities,
entropies, mutual information) when a name of it is first used, so that importing the package stays fast.
"""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from infogeo import dispatch as dispatch
from infogeo.activations import AffinityMatrix as AffinityMatrix
from infogeo.activations import LayerActivations as LayerActivations
from infogeo.alpha_divergences import alpha_divergence as alpha_divergence
from infogeo.alpha_divergences import alpha_measure as alpha_measure
from infogeo.alpha_divergences import renyi_divergence as renyi_divergence
from infogeo.alpha_divergences import renyi_measure as renyi_measure
from infogeo.background import Background as Background
from infogeo.background import estimate_background as estimate_background
from infogeo.background import ledoit_wolf as ledoit_wolf
from infogeo.background import oracle_approximating as oracle_approximating
from infogeo.bounds import DistanceBounds as DistanceBounds
from infogeo.bounds import calvo_oller_distance as calvo_oller_distance
from infogeo.bounds import fisher_rao_bounds as fisher_rao_bounds
from infogeo.coefficients import Comparison as Comparison
from infogeo.coefficients import Comparisons as Comparisons
from infogeo.coefficients import edge_jaccard as edge_jaccard
from infogeo.coefficients import kendall as kendall
from infogeo.coefficients import spanning_tree_overlap as spanning_tree_overlap
from infogeo.coefficients import spearman as spearman
from infogeo.coefficients import top_edge_jaccard as top_edge_jaccard
from infogeo.comparison import compare_graphs as compare_graphs
from infogeo.comparison import compare_over_sentences as compare_over_sentences
from infogeo.connections import alpha_connection as alpha_connection
from infogeo.connections import alpha_geodesic as alpha_geodesic
from infogeo.connections import cubic_tensor as cubic_tensor
from infogeo.connections import exponential_geodesic as exponential_geodesic
from infogeo.connections import mixture_geodesic as mixture_geodesic
from infogeo.curvature import scalar_curvature as scalar_curvature
from infogeo.curvature import sectional_curvature as sectional_curvature
from infogeo.dispatch.numerical import geodesic_solution as geodesic_solution
from infogeo.distances import bures_wasserstein_distance as bures_wasserstein_distance
from infogeo.distances import cosine_distance as cosine_distance
from infogeo.distances import euclidean_distance as euclidean_distance
from infogeo.distances import fisher_rao_distance as fisher_rao_distance
from infogeo.distances import hellinger_distance as hellinger_distance
from infogeo.distances import jensen_shannon_distance as jensen_shannon_distance
from infogeo.distances import mahalanobis_distance as mahalanobis_distance
from infogeo.divergences import bhattacharyya_distance as bhattacharyya_distance
from infogeo.divergences import jeffreys_divergence as jeffreys_divergence
from infogeo.divergences import kl_divergence as kl_divergence
from infogeo.dual import bregman_divergence as bregman_divergence
from infogeo.dual import dual_potential as dual_potential
from infogeo.dual import expectation_parameters as expectation_parameters
from infogeo.dual import from_expectation as from_expectation
from infogeo.dual import from_natural as from_natural
from infogeo.dual import log_partition as log_partition
from infogeo.dual import natural_fisher_information as natural_fisher_information
from infogeo.dual import natural_parameters as natural_parameters
from infogeo.entropy import EntropyProfile as EntropyProfile
from infogeo.entropy import shannon_entropy as shannon_entropy
from infogeo.errors import InfogeoError as InfogeoError
from infogeo.estimation import component_normals as component_normals
from infogeo.estimation import occurrence_normals as occurrence_normals
from infogeo.estimation import point_masses as point_masses
from infogeo.estimation import readout_categoricals as readout_categoricals
from infogeo.estimation import shared_covariance_normals as shared_covariance_normals
from infogeo.families import Bernoulli as Bernoulli
from infogeo.families import Beta as Beta
from infogeo.families import Binomial as Binomial
from infogeo.families import Categorical as Categorical
from infogeo.families import CenteredGaussian as CenteredGaussian
from infogeo.families import DiagonalGaussian as DiagonalGaussian
from infogeo.families import Dirichlet as Dirichlet
from infogeo.families import Exponential as Exponential
from infogeo.families import Family as Family
from infogeo.families import Gamma as Gamma
from infogeo.families import Gaussian as Gaussian
from infogeo.families import Geometric as Geometric
from infogeo.families import InverseGaussian as InverseGaussian
from infogeo.families import IsotropicGaussian as IsotropicGaussian
from infogeo.families import LogNormal as LogNormal
from infogeo.families import LowRankGaussian as LowRankGaussian
from infogeo.families import Multinomial as Multinomial
from infogeo.families import PointMass as PointMass
from infogeo.families import Poisson as Poisson
from infogeo.families import SharedCovarianceGaussian as SharedCovarianceGaussian
from infogeo.families import VonMisesFisher as VonMisesFisher
from infogeo.families import Weibull as Weibull
from infogeo.fisher import Eigenpairs as Eigenpairs
from infogeo.fisher import SoftmaxFisher as SoftmaxFisher
from infogeo.fisher import pullback_metric as pullback_metric
from infogeo.fisher import softmax_fisher_information as softmax_fisher_information
from infogeo.geometry import exponential_map as exponential_map
from infogeo.geometry import fisher_information as fisher_information
from infogeo.geometry import geodesic as geodesic
from infogeo.geometry import inner_product as inner_product
from infogeo.geometry import logarithm_map as logarithm_map
from infogeo.graphs import WordGraph as WordGraph
from infogeo.graphs import distance_from_strength as distance_from_strength
from infogeo.graphs import minimum_spanning_tree as minimum_spanning_tree
from infogeo.graphs import nearest_neighbor_graph as nearest_neighbor_graph
from infogeo.graphs import radius_graph as radius_graph
from infogeo.graphs import strength_from_distance as strength_from_distance
from infogeo.graphs import threshold_graph as threshold_graph
from infogeo.graphs import top_edges as top_edges
from infogeo.layer_agreement import Agreement as Agreement
from infogeo.layer_agreement import compare_layers as compare_layers
from infogeo.manifolds._solution import GeodesicSolution as GeodesicSolution
from infogeo.mantel import mantel_test as mantel_test
from infogeo.mantel import partial_mantel_test as partial_mantel_test
from infogeo.means import FrechetMean as FrechetMean
from infogeo.means import frechet_mean as frechet_mean
from infogeo.measures import MEASURES as MEASURES
from infogeo.measures import Measure as Measure
from infogeo.normal_geodesics import NormalGeodesic as NormalGeodesic
from infogeo.normal_geodesics import normal_geodesic as normal_geodesic
from infogeo.pairwise import iter_blocks as iter_blocks
from infogeo.pairwise import paired as paired
from infogeo.pairwise import pairwise as pairwise
from infogeo.pairwise import vector_distances as vector_distances
from infogeo.projections import Projection as Projection
from infogeo.projections import exponential_projection as exponential_projection
from infogeo.projections import mixture_projection as mixture_projection
from infogeo.results import Result as Result
from infogeo.results import Source as Source
from infogeo.total_variation import total_variation_distance as total_variation_distance
from infogeo.words import DistanceMatrix as DistanceMatrix
from infogeo.words import WordDistributions as WordDistributions

if _TYPE_CHECKING:
    from infogeo.capacity.discrete import blahut_arimoto as blahut_arimoto
    from infogeo.capacity.discrete import channel_information as channel_information
    from infogeo.capacity.results import CapacityResult as CapacityResult
    from infogeo.capacity.results import ChannelSamples as ChannelSamples
    from infogeo.capacity.results import LayerCapacity as LayerCapacity
    from infogeo.estimates import EstimateWarning as EstimateWarning
    from infogeo.estimates import InformationEstimate as InformationEstimate

_HOME = {
    "CapacityResult": "capacity.results",
    "ChannelSamples": "capacity.results",
    "EstimateWarning": "estimates",
    "InformationEstimate": "estimates",
    "LayerCapacity": "capacity.results",
    "blahut_arimoto": "capacity.discrete",
    "channel_information": "capacity.discrete",
}
"""The module of each name that is imported when it is first used."""


def __getattr__(name: str) -> _Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
