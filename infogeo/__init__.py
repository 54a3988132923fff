"""Information geometry for people who want to understand neural language models: the mathematics.

The geometry is imported at once, since its formulas register themselves; the information theory (capacities,
entropies, mutual information) when a name of it is first used, so that importing the package stays fast.
"""

import importlib as _importlib
from types import ModuleType as _Module
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from infogeo import dispatch as dispatch
from infogeo.activations import AffinityMatrix as AffinityMatrix
from infogeo.activations import AttentionKind as AttentionKind
from infogeo.activations import EncoderDecoderActivations as EncoderDecoderActivations
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
from infogeo.entropy import shannon_entropy as shannon_entropy
from infogeo.entropy_profile import EntropyProfile as EntropyProfile
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
from infogeo.stages import StageActivations as StageActivations
from infogeo.total_variation import total_variation_distance as total_variation_distance
from infogeo.words import DistanceMatrix as DistanceMatrix
from infogeo.words import WordDistributions as WordDistributions

if _TYPE_CHECKING:
    from infogeo._influence_effects import EffectsBackground as EffectsBackground
    from infogeo._influence_effects import WordEffects as WordEffects
    from infogeo._influence_weights import DistanceProfile as DistanceProfile
    from infogeo._influence_weights import distance_profile as distance_profile
    from infogeo._influence_weights import product_ratios as product_ratios
    from infogeo._influence_weights import row_entropies as row_entropies
    from infogeo._influence_weights import row_shares as row_shares
    from infogeo._influence_weights import symmetric_shares as symmetric_shares
    from infogeo._influence_weights import symmetrized_influence as symmetrized_influence
    from infogeo.attention_entropies import attention_entropy as attention_entropy
    from infogeo.attention_entropies import attention_entropy_lower_bound as attention_entropy_lower_bound
    from infogeo.attention_entropies import attention_logit_norm as attention_logit_norm
    from infogeo.attention_entropies import extremal_attention_logits as extremal_attention_logits
    from infogeo.attention_entropies import mean_attention_entropy as mean_attention_entropy
    from infogeo.capacity.bottleneck import InformationBottleneck as InformationBottleneck
    from infogeo.capacity.bottleneck import information_bottleneck as information_bottleneck
    from infogeo.capacity.deb2025 import deb2025_capacity as deb2025_capacity
    from infogeo.capacity.discrete import blahut_arimoto as blahut_arimoto
    from infogeo.capacity.discrete import channel_information as channel_information
    from infogeo.capacity.gaussian import GaussianCapacity as GaussianCapacity
    from infogeo.capacity.gaussian import WaterFilling as WaterFilling
    from infogeo.capacity.gaussian import gaussian_mimo_capacity as gaussian_mimo_capacity
    from infogeo.capacity.gaussian import gaussian_rate as gaussian_rate
    from infogeo.capacity.gaussian import water_filling as water_filling
    from infogeo.capacity.gaussian_sources import ReverseWaterFilling as ReverseWaterFilling
    from infogeo.capacity.gaussian_sources import gaussian_rate_distortion as gaussian_rate_distortion
    from infogeo.capacity.gaussian_sources import reverse_water_filling as reverse_water_filling
    from infogeo.capacity.heads import attention_capacity as attention_capacity
    from infogeo.capacity.jacobian import jacobian_capacity as jacobian_capacity
    from infogeo.capacity.jacobian import number_format_noise as number_format_noise
    from infogeo.capacity.layer import DataProcessingCheck as DataProcessingCheck
    from infogeo.capacity.layer import data_processing_check as data_processing_check
    from infogeo.capacity.layer import layer_capacity as layer_capacity
    from infogeo.capacity.linear import linear_gaussian_capacity as linear_gaussian_capacity
    from infogeo.capacity.rate_distortion import RateDistortion as RateDistortion
    from infogeo.capacity.rate_distortion import rate_distortion as rate_distortion
    from infogeo.capacity.rate_distortion import rate_distortion_curve as rate_distortion_curve
    from infogeo.capacity.readout import readout_capacity as readout_capacity
    from infogeo.capacity.results import CapacityResult as CapacityResult
    from infogeo.capacity.results import ChannelSamples as ChannelSamples
    from infogeo.capacity.results import LayerCapacity as LayerCapacity
    from infogeo.coding import coding_rate as coding_rate
    from infogeo.coding import rate_reduction as rate_reduction
    from infogeo.diagnosis import RULES as RULES
    from infogeo.diagnosis import Diagnosis as Diagnosis
    from infogeo.diagnosis import Finding as Finding
    from infogeo.diagnosis import Rule as Rule
    from infogeo.diagnosis import RunComparison as RunComparison
    from infogeo.diagnosis import Thresholds as Thresholds
    from infogeo.diagnosis import compare_runs as compare_runs
    from infogeo.diagnosis import diagnose as diagnose
    from infogeo.differential_entropy import gaussian_entropy as gaussian_entropy
    from infogeo.differential_entropy import kozachenko_leonenko_entropy as kozachenko_leonenko_entropy
    from infogeo.differential_entropy import nearest_neighbor_renyi_entropy as nearest_neighbor_renyi_entropy
    from infogeo.discrete_entropy import entropy_of_labels as entropy_of_labels
    from infogeo.discrete_entropy import entropy_standard_error as entropy_standard_error
    from infogeo.discrete_entropy import estimate_entropy as estimate_entropy
    from infogeo.edge_influence import EdgeInfluence as EdgeInfluence
    from infogeo.estimates import EstimateWarning as EstimateWarning
    from infogeo.estimates import InformationEstimate as InformationEstimate
    from infogeo.evidence import relation_evidence as relation_evidence
    from infogeo.evidence import row_ratios as row_ratios
    from infogeo.evidence import standardized_influence as standardized_influence
    from infogeo.generalized_entropy import renyi_entropy as renyi_entropy
    from infogeo.generalized_entropy import tsallis_entropy as tsallis_entropy
    from infogeo.influence import Influence as Influence
    from infogeo.information_planes import InformationPath as InformationPath
    from infogeo.information_planes import InformationPlane as InformationPlane
    from infogeo.information_planes import information_plane as information_plane
    from infogeo.matrix_entropy import gaussian_gram as gaussian_gram
    from infogeo.matrix_entropy import linear_gram as linear_gram
    from infogeo.matrix_entropy import matrix_conditional_entropy as matrix_conditional_entropy
    from infogeo.matrix_entropy import matrix_joint_entropy as matrix_joint_entropy
    from infogeo.matrix_entropy import matrix_mutual_information as matrix_mutual_information
    from infogeo.matrix_entropy import matrix_renyi_entropy as matrix_renyi_entropy
    from infogeo.mutual_information.automatic import estimate_mutual_information as estimate_mutual_information
    from infogeo.mutual_information.binned import binned_mutual_information as binned_mutual_information
    from infogeo.mutual_information.binned import discrete_mutual_information as discrete_mutual_information
    from infogeo.mutual_information.conditional import conditional_mutual_information as conditional_mutual_information
    from infogeo.mutual_information.conditional import (
        gaussian_conditional_mutual_information as gaussian_conditional_mutual_information,
    )
    from infogeo.mutual_information.copula import (
        gaussian_copula_mutual_information as gaussian_copula_mutual_information,
    )
    from infogeo.mutual_information.gaussian import gaussian_mutual_information as gaussian_mutual_information
    from infogeo.mutual_information.ksg import ksg_mutual_information as ksg_mutual_information
    from infogeo.mutual_information.mixed import mixed_mutual_information as mixed_mutual_information
    from infogeo.mutual_information.significance import PermutationTest as PermutationTest
    from infogeo.mutual_information.significance import SubsampleInterval as SubsampleInterval
    from infogeo.mutual_information.significance import permutation_test as permutation_test
    from infogeo.mutual_information.significance import subsample_interval as subsample_interval
    from infogeo.probing import probing_information as probing_information
    from infogeo.prompts import dataset_entropy as dataset_entropy
    from infogeo.prompts import prompt_entropy as prompt_entropy
    from infogeo.spectrum import anisotropy as anisotropy
    from infogeo.spectrum import effective_rank as effective_rank
    from infogeo.spectrum import lidar as lidar
    from infogeo.spectrum import participation_ratio as participation_ratio
    from infogeo.spectrum import rankme as rankme
    from infogeo.spectrum import stable_rank as stable_rank
    from infogeo.spectrum import top_component_share as top_component_share
    from infogeo.syntax import DependencyTree as DependencyTree
    from infogeo.syntax import SkippedSentence as SkippedSentence
    from infogeo.syntax import Treebank as Treebank
    from infogeo.training import QUANTITIES as QUANTITIES
    from infogeo.training import Quantity as Quantity
    from infogeo.training import RunFacts as RunFacts
    from infogeo.training import TrainingHistory as TrainingHistory
    from infogeo.training import TrainingRecord as TrainingRecord
    from infogeo.tree_comparison import FamilyDifference as FamilyDifference
    from infogeo.tree_comparison import FamilyEstimate as FamilyEstimate
    from infogeo.tree_comparison import FamilyVariants as FamilyVariants
    from infogeo.tree_comparison import ScoreTable as ScoreTable
    from infogeo.tree_comparison import TreebankComparison as TreebankComparison
    from infogeo.tree_comparison import VariantChoice as VariantChoice
    from infogeo.tree_comparison import compare_families as compare_families
    from infogeo.tree_scores import SentenceScores as SentenceScores
    from infogeo.tree_scores import score_closeness as score_closeness
    from infogeo.tree_scores import tree_distance_correlation as tree_distance_correlation
    from infogeo.tree_scores import undirected_attachment_score as undirected_attachment_score
    from infogeo.word_similarity import SimilarityComparison as SimilarityComparison
    from infogeo.word_similarity import SimilarityEstimate as SimilarityEstimate
    from infogeo.word_similarity import WordPairs as WordPairs
    from infogeo.word_similarity import compare_similarities as compare_similarities

_HOME = {
    "CapacityResult": "capacity.results",
    "ChannelSamples": "capacity.results",
    "DataProcessingCheck": "capacity.layer",
    "DependencyTree": "syntax",
    "Diagnosis": "diagnosis",
    "DistanceProfile": "_influence_weights",
    "EdgeInfluence": "edge_influence",
    "EffectsBackground": "_influence_effects",
    "EstimateWarning": "estimates",
    "FamilyDifference": "tree_comparison",
    "FamilyEstimate": "tree_comparison",
    "FamilyVariants": "tree_comparison",
    "Finding": "diagnosis",
    "GaussianCapacity": "capacity.gaussian",
    "Influence": "influence",
    "InformationBottleneck": "capacity.bottleneck",
    "InformationEstimate": "estimates",
    "InformationPath": "information_planes",
    "InformationPlane": "information_planes",
    "LayerCapacity": "capacity.results",
    "PermutationTest": "mutual_information.significance",
    "QUANTITIES": "training",
    "Quantity": "training",
    "RULES": "diagnosis",
    "RateDistortion": "capacity.rate_distortion",
    "ReverseWaterFilling": "capacity.gaussian_sources",
    "Rule": "diagnosis",
    "RunComparison": "diagnosis",
    "RunFacts": "training",
    "ScoreTable": "tree_comparison",
    "SentenceScores": "tree_scores",
    "SimilarityComparison": "word_similarity",
    "SimilarityEstimate": "word_similarity",
    "SkippedSentence": "syntax",
    "SubsampleInterval": "mutual_information.significance",
    "Thresholds": "diagnosis",
    "TrainingHistory": "training",
    "TrainingRecord": "training",
    "Treebank": "syntax",
    "TreebankComparison": "tree_comparison",
    "VariantChoice": "tree_comparison",
    "WaterFilling": "capacity.gaussian",
    "WordEffects": "_influence_effects",
    "WordPairs": "word_similarity",
    "anisotropy": "spectrum",
    "attention_capacity": "capacity.heads",
    "attention_entropy": "attention_entropies",
    "attention_entropy_lower_bound": "attention_entropies",
    "attention_logit_norm": "attention_entropies",
    "binned_mutual_information": "mutual_information.binned",
    "blahut_arimoto": "capacity.discrete",
    "channel_information": "capacity.discrete",
    "coding_rate": "coding",
    "compare_families": "tree_comparison",
    "compare_runs": "diagnosis",
    "compare_similarities": "word_similarity",
    "conditional_mutual_information": "mutual_information.conditional",
    "data_processing_check": "capacity.layer",
    "dataset_entropy": "prompts",
    "deb2025_capacity": "capacity.deb2025",
    "diagnose": "diagnosis",
    "discrete_mutual_information": "mutual_information.binned",
    "distance_profile": "_influence_weights",
    "effective_rank": "spectrum",
    "entropy_of_labels": "discrete_entropy",
    "entropy_standard_error": "discrete_entropy",
    "estimate_entropy": "discrete_entropy",
    "estimate_mutual_information": "mutual_information.automatic",
    "extremal_attention_logits": "attention_entropies",
    "gaussian_conditional_mutual_information": "mutual_information.conditional",
    "gaussian_copula_mutual_information": "mutual_information.copula",
    "gaussian_entropy": "differential_entropy",
    "gaussian_gram": "matrix_entropy",
    "gaussian_mimo_capacity": "capacity.gaussian",
    "gaussian_mutual_information": "mutual_information.gaussian",
    "gaussian_rate": "capacity.gaussian",
    "gaussian_rate_distortion": "capacity.gaussian_sources",
    "information_bottleneck": "capacity.bottleneck",
    "information_plane": "information_planes",
    "jacobian_capacity": "capacity.jacobian",
    "kozachenko_leonenko_entropy": "differential_entropy",
    "ksg_mutual_information": "mutual_information.ksg",
    "layer_capacity": "capacity.layer",
    "lidar": "spectrum",
    "linear_gaussian_capacity": "capacity.linear",
    "linear_gram": "matrix_entropy",
    "matrix_conditional_entropy": "matrix_entropy",
    "matrix_joint_entropy": "matrix_entropy",
    "matrix_mutual_information": "matrix_entropy",
    "matrix_renyi_entropy": "matrix_entropy",
    "mean_attention_entropy": "attention_entropies",
    "mixed_mutual_information": "mutual_information.mixed",
    "nearest_neighbor_renyi_entropy": "differential_entropy",
    "number_format_noise": "capacity.jacobian",
    "participation_ratio": "spectrum",
    "permutation_test": "mutual_information.significance",
    "probing_information": "probing",
    "product_ratios": "_influence_weights",
    "prompt_entropy": "prompts",
    "rankme": "spectrum",
    "rate_distortion": "capacity.rate_distortion",
    "rate_distortion_curve": "capacity.rate_distortion",
    "rate_reduction": "coding",
    "readout_capacity": "capacity.readout",
    "relation_evidence": "evidence",
    "renyi_entropy": "generalized_entropy",
    "reverse_water_filling": "capacity.gaussian_sources",
    "row_entropies": "_influence_weights",
    "row_ratios": "evidence",
    "row_shares": "_influence_weights",
    "score_closeness": "tree_scores",
    "stable_rank": "spectrum",
    "standardized_influence": "evidence",
    "subsample_interval": "mutual_information.significance",
    "symmetric_shares": "_influence_weights",
    "symmetrized_influence": "_influence_weights",
    "top_component_share": "spectrum",
    "tree_distance_correlation": "tree_scores",
    "tsallis_entropy": "generalized_entropy",
    "undirected_attachment_score": "tree_scores",
    "water_filling": "capacity.gaussian",
}
"""The module of each name that is imported when it is first used."""

__all__ = sorted({
    *_HOME, *(name for name, value in globals().items() if name[0] != "_" and not isinstance(value, _Module)),
    "dispatch",
})


def __getattr__(name: str) -> _Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
