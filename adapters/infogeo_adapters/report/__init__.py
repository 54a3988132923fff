"""The report: a folder that opens offline in a browser and carries its data beside the page."""

from infogeo_adapters.report.builder import write_report as write_report
from infogeo_adapters.report.folder import check_output_folder as check_output_folder
from infogeo_adapters.report.lens import write_lens_report as write_lens_report
