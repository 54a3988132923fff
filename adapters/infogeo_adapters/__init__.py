"""Where infogeo meets the outside: models, graph libraries, files, plots, reports, the command line.

Names are loaded when they are first used, so that importing the package costs nothing and needs no extra.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infogeo_adapters._corpus_text import CorpusText as CorpusText
    from infogeo_adapters._neural_bounds import NeuralBound as NeuralBound
    from infogeo_adapters._tuned_quality import LensQuality as LensQuality
    from infogeo_adapters._tuned_quality import lens_quality as lens_quality
    from infogeo_adapters._tuned_result import TunedLens as TunedLens
    from infogeo_adapters._tuned_result import load_tuned_lens as load_tuned_lens
    from infogeo_adapters.analysis import SentenceAnalysis as SentenceAnalysis
    from infogeo_adapters.analysis import analyze as analyze
    from infogeo_adapters.capacity import CapacityTable as CapacityTable
    from infogeo_adapters.capacity import measure_capacity as measure_capacity
    from infogeo_adapters.corpus import Corpus as Corpus
    from infogeo_adapters.corpus import capture_corpus as capture_corpus
    from infogeo_adapters.corpus import open_corpus as open_corpus
    from infogeo_adapters.doctor import ModelReport as ModelReport
    from infogeo_adapters.doctor import inspect_model as inspect_model
    from infogeo_adapters.files import read_graph as read_graph
    from infogeo_adapters.files import write_graph as write_graph
    from infogeo_adapters.fisher import Estimate as Estimate
    from infogeo_adapters.fisher import FisherOperator as FisherOperator
    from infogeo_adapters.fisher import NaturalGradient as NaturalGradient
    from infogeo_adapters.fisher import empirical_fisher as empirical_fisher
    from infogeo_adapters.fisher import generalized_gauss_newton as generalized_gauss_newton
    from infogeo_adapters.fisher import natural_gradient as natural_gradient
    from infogeo_adapters.geomstats import from_geomstats as from_geomstats
    from infogeo_adapters.geomstats import to_geomstats as to_geomstats
    from infogeo_adapters.information_plane import WordsOnPlane as WordsOnPlane
    from infogeo_adapters.information_plane import model_information_plane as model_information_plane
    from infogeo_adapters.information_plane import words_on_plane as words_on_plane
    from infogeo_adapters.networkx import to_networkx as to_networkx
    from infogeo_adapters.neural_information import NeuralInformation as NeuralInformation
    from infogeo_adapters.neural_information import neural_mutual_information as neural_mutual_information
    from infogeo_adapters.probing import probe_information as probe_information
    from infogeo_adapters.progress import pairwise_to_file as pairwise_to_file
    from infogeo_adapters.progress import progress_bar as progress_bar
    from infogeo_adapters.report import write_lens_report as write_lens_report
    from infogeo_adapters.report import write_report as write_report
    from infogeo_adapters.tables import write_table as write_table
    from infogeo_adapters.token_divergences import InformationScatter as InformationScatter
    from infogeo_adapters.token_divergences import information_scatter as information_scatter
    from infogeo_adapters.token_information import DimensionInformation as DimensionInformation
    from infogeo_adapters.token_information import TokenInformation as TokenInformation
    from infogeo_adapters.token_information import dimension_information as dimension_information
    from infogeo_adapters.token_information import token_mutual_information as token_mutual_information
    from infogeo_adapters.training.checkpoints import measure_checkpoint as measure_checkpoint
    from infogeo_adapters.training.comparison_page import write_run_comparison as write_run_comparison
    from infogeo_adapters.training.history_files import read_history as read_history
    from infogeo_adapters.training.monitor import TrainingMonitor as TrainingMonitor
    from infogeo_adapters.training.page import write_diagnosis as write_diagnosis
    from infogeo_adapters.transformers.attention import attention_flow as attention_flow
    from infogeo_adapters.transformers.attention import attention_rollout as attention_rollout
    from infogeo_adapters.transformers.attention import head_average as head_average
    from infogeo_adapters.transformers.attention import single_head as single_head
    from infogeo_adapters.transformers.attention_reduction import ReducedAttention as ReducedAttention
    from infogeo_adapters.transformers.attention_reduction import reduce_attention as reduce_attention
    from infogeo_adapters.transformers.backgrounds import effects_background as effects_background
    from infogeo_adapters.transformers.capture import capture_activations as capture_activations
    from infogeo_adapters.transformers.capture import capture_background as capture_background
    from infogeo_adapters.transformers.capture import capture_encoder_decoder as capture_encoder_decoder
    from infogeo_adapters.transformers.capture import split_into_windows as split_into_windows
    from infogeo_adapters.transformers.channels import capture_channels as capture_channels
    from infogeo_adapters.transformers.edge_influence import edge_background as edge_background
    from infogeo_adapters.transformers.edge_influence import measure_edge_influence as measure_edge_influence
    from infogeo_adapters.transformers.forward import padding_differences as padding_differences
    from infogeo_adapters.transformers.influence import measure_influence as measure_influence
    from infogeo_adapters.transformers.influence import stream_word_effects as stream_word_effects
    from infogeo_adapters.transformers.influence import word_effects as word_effects
    from infogeo_adapters.transformers.influence_graphs import influence_affinity as influence_affinity
    from infogeo_adapters.transformers.influence_graphs import influence_graph as influence_graph
    from infogeo_adapters.transformers.lens import logit_lens as logit_lens
    from infogeo_adapters.transformers.loading import LanguageModel as LanguageModel
    from infogeo_adapters.transformers.loading import load_model as load_model
    from infogeo_adapters.transformers.local_influence import LocalInfluence as LocalInfluence
    from infogeo_adapters.transformers.local_influence import local_effects as local_effects
    from infogeo_adapters.transformers.local_influence import local_influence as local_influence
    from infogeo_adapters.transformers.part_jacobians import PartJacobians as PartJacobians
    from infogeo_adapters.transformers.part_jacobians import part_jacobians as part_jacobians
    from infogeo_adapters.transformers.readout import find_readout as find_readout
    from infogeo_adapters.transformers.readout import read_out as read_out
    from infogeo_adapters.transformers.removal import DeleteWord as DeleteWord
    from infogeo_adapters.transformers.removal import HideWord as HideWord
    from infogeo_adapters.transformers.removal import MaskWord as MaskWord
    from infogeo_adapters.transformers.removal import MeanEmbedding as MeanEmbedding
    from infogeo_adapters.transformers.removal import Removal as Removal
    from infogeo_adapters.transformers.removal import ResampleWord as ResampleWord
    from infogeo_adapters.transformers.stages import capture_stages as capture_stages
    from infogeo_adapters.treebank._word_pairs import read_word_pairs as read_word_pairs
    from infogeo_adapters.treebank.comparison import ModelTreebankComparison as ModelTreebankComparison
    from infogeo_adapters.treebank.comparison import compare_with_treebank as compare_with_treebank
    from infogeo_adapters.treebank.examples import ExampleSentence as ExampleSentence
    from infogeo_adapters.treebank.examples import example_sentences as example_sentences
    from infogeo_adapters.treebank.files import read_treebank as read_treebank
    from infogeo_adapters.treebank.files import sample_treebank as sample_treebank
    from infogeo_adapters.treebank.page import write_treebank_page as write_treebank_page
    from infogeo_adapters.treebank.probe import StructuralProbe as StructuralProbe
    from infogeo_adapters.treebank.probe import choose_structural_probe as choose_structural_probe
    from infogeo_adapters.treebank.probe import fit_structural_probe as fit_structural_probe
    from infogeo_adapters.treebank.registry import family_names as family_names
    from infogeo_adapters.treebank.similarity import compare_with_similarity as compare_with_similarity
    from infogeo_adapters.treebank.untrained import untrained_twin as untrained_twin
    from infogeo_adapters.tuned_lens_fitting import fit_tuned_lens as fit_tuned_lens

_HOME = {
    "CapacityTable": "capacity",
    "Corpus": "corpus",
    "CorpusText": "_corpus_text",
    "DeleteWord": "transformers.removal",
    "DimensionInformation": "token_information",
    "Estimate": "_fisher_operator",
    "ExampleSentence": "treebank.examples",
    "FisherOperator": "_fisher_operator",
    "HideWord": "transformers.removal",
    "InformationScatter": "token_divergences",
    "LanguageModel": "transformers.loading",
    "MaskWord": "transformers.removal",
    "MeanEmbedding": "transformers.removal",
    "ModelReport": "doctor",
    "ModelTreebankComparison": "treebank.comparison",
    "LensQuality": "_tuned_quality",
    "LocalInfluence": "transformers.local_influence",
    "NaturalGradient": "fisher",
    "NeuralBound": "_neural_bounds",
    "NeuralInformation": "neural_information",
    "PartJacobians": "transformers.part_jacobians",
    "ReducedAttention": "transformers.attention_reduction",
    "Removal": "transformers.removal",
    "ResampleWord": "transformers.removal",
    "SentenceAnalysis": "analysis",
    "StructuralProbe": "treebank.probe",
    "TokenInformation": "token_information",
    "TrainingMonitor": "training.monitor",
    "TunedLens": "_tuned_result",
    "WordsOnPlane": "information_plane",
    "analyze": "analysis",
    "attention_flow": "transformers.attention",
    "attention_rollout": "transformers.attention",
    "capture_activations": "transformers.capture",
    "capture_background": "transformers.capture",
    "capture_channels": "transformers.channels",
    "capture_corpus": "corpus",
    "capture_encoder_decoder": "transformers.capture",
    "capture_stages": "transformers.stages",
    "choose_structural_probe": "treebank.probe",
    "compare_with_similarity": "treebank.similarity",
    "compare_with_treebank": "treebank.comparison",
    "dimension_information": "token_information",
    "edge_background": "transformers.edge_influence",
    "effects_background": "transformers.backgrounds",
    "empirical_fisher": "fisher",
    "example_sentences": "treebank.examples",
    "family_names": "treebank.registry",
    "find_readout": "transformers.readout",
    "fit_structural_probe": "treebank.probe",
    "fit_tuned_lens": "tuned_lens_fitting",
    "from_geomstats": "geomstats",
    "generalized_gauss_newton": "fisher",
    "head_average": "transformers.attention",
    "influence_affinity": "transformers.influence_graphs",
    "influence_graph": "transformers.influence_graphs",
    "information_scatter": "token_divergences",
    "inspect_model": "doctor",
    "lens_quality": "_tuned_quality",
    "load_model": "transformers.loading",
    "load_tuned_lens": "_tuned_result",
    "local_effects": "transformers.local_influence",
    "local_influence": "transformers.local_influence",
    "logit_lens": "transformers.lens",
    "measure_edge_influence": "transformers.edge_influence",
    "measure_influence": "transformers.influence",
    "model_information_plane": "information_plane",
    "measure_capacity": "capacity",
    "measure_checkpoint": "training.checkpoints",
    "natural_gradient": "fisher",
    "neural_mutual_information": "neural_information",
    "open_corpus": "corpus",
    "padding_differences": "transformers.forward",
    "pairwise_to_file": "progress",
    "part_jacobians": "transformers.part_jacobians",
    "probe_information": "probing",
    "progress_bar": "progress",
    "read_graph": "files",
    "read_history": "training.history_files",
    "read_out": "transformers.readout",
    "read_treebank": "treebank.files",
    "read_word_pairs": "treebank._word_pairs",
    "reduce_attention": "transformers.attention_reduction",
    "sample_treebank": "treebank.files",
    "single_head": "transformers.attention",
    "split_into_windows": "transformers.capture",
    "stream_word_effects": "transformers.influence",
    "to_geomstats": "geomstats",
    "to_networkx": "networkx",
    "token_mutual_information": "token_information",
    "untrained_twin": "treebank.untrained",
    "word_effects": "transformers.influence",
    "words_on_plane": "information_plane",
    "write_diagnosis": "training.page",
    "write_graph": "files",
    "write_lens_report": "report",
    "write_report": "report",
    "write_run_comparison": "training.comparison_page",
    "write_table": "tables",
    "write_treebank_page": "treebank.page",
}
"""The module of each public name."""

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
