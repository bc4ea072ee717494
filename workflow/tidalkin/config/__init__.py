"""The typed configuration: every key, its default, its unit and its bounds.

Bad values are refused here and nowhere else. The Snakefile calls `load_settings` before it plans anything. A rule
declares the keys that decide its output, and its script gets these and no others (`tidalkin.config.declared`).

Sections up to `explorer` hold what changes results. `compute` holds what does not: devices, workers and memory.
"""

from tidalkin.config.base import (
    BANDS,
    LEAST_OBJECT_ID,
    MOST_OBJECT_ID,
    Band,
    Fraction,
    NonNegative,
    Positive,
    Range,
    Section,
)
from tidalkin.config.catalog import Catalog, CatalogServer
from tidalkin.config.completeness import Completeness
from tidalkin.config.compute import Compute, Dask
from tidalkin.config.cutouts import (
    Cutouts,
    Folder,
    Hips2fits,
    Hips2fitsTransport,
    HscDas,
    HscDasTransport,
    HscPatches,
    HscPatchesTransport,
    MmuHsc,
    SimulatedSurvey,
    Transport,
)
from tidalkin.config.declared import DeclaredSettings, declare
from tidalkin.config.explorer import Explorer
from tidalkin.config.file import SETTINGS_FILE, read_config_file, write_config_file
from tidalkin.config.images import Images, Stretch
from tidalkin.config.injection import Injection, Nuisances, StampFolder
from tidalkin.config.model import Augment, Embedding, Network, Reuse, Training
from tidalkin.config.search import EvaluationSettings, Index, Query, Search
from tidalkin.config.settings import Settings, config_digest, load_settings

__all__ = [
    "BANDS",
    "LEAST_OBJECT_ID",
    "MOST_OBJECT_ID",
    "SETTINGS_FILE",
    "Augment",
    "Band",
    "Catalog",
    "CatalogServer",
    "Completeness",
    "Compute",
    "Cutouts",
    "Dask",
    "DeclaredSettings",
    "Embedding",
    "EvaluationSettings",
    "Explorer",
    "Folder",
    "Fraction",
    "Hips2fits",
    "Hips2fitsTransport",
    "HscDas",
    "HscDasTransport",
    "HscPatches",
    "HscPatchesTransport",
    "Images",
    "Index",
    "Injection",
    "MmuHsc",
    "Network",
    "NonNegative",
    "Nuisances",
    "Positive",
    "Query",
    "Range",
    "Reuse",
    "Search",
    "Section",
    "Settings",
    "SimulatedSurvey",
    "StampFolder",
    "Stretch",
    "Training",
    "Transport",
    "config_digest",
    "declare",
    "load_settings",
    "read_config_file",
    "write_config_file",
]
