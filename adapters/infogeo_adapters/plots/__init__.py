"""Plotly figures of the results: pure functions that take a dataclass and return a figure."""

from infogeo_adapters.plots.arcs import graph_figure as graph_figure
from infogeo_adapters.plots.arcs import graph_pair_figure as graph_pair_figure
from infogeo_adapters.plots.half_plane import half_plane_figure as half_plane_figure
from infogeo_adapters.plots.heatmaps import agreement_figure as agreement_figure
from infogeo_adapters.plots.heatmaps import attention_figure as attention_figure
from infogeo_adapters.plots.heatmaps import distance_figure as distance_figure
from infogeo_adapters.plots.heatmaps import layer_agreement_figure as layer_agreement_figure
from infogeo_adapters.plots.information import information_plane_figure as information_plane_figure
from infogeo_adapters.plots.information import words_plane_figure as words_plane_figure
from infogeo_adapters.plots.lens import lens_figure as lens_figure
from infogeo_adapters.plots.lens_stages import entropy_band_figure as entropy_band_figure
from infogeo_adapters.plots.lens_stages import entropy_histogram_figure as entropy_histogram_figure
from infogeo_adapters.plots.lens_stages import prediction_path_figure as prediction_path_figure
from infogeo_adapters.plots.token_maps import dimension_information_figure as dimension_information_figure
from infogeo_adapters.plots.token_maps import information_scatter_figure as information_scatter_figure
from infogeo_adapters.plots.token_maps import token_information_figure as token_information_figure
