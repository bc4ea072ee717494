"""Query the catalog server once, in a process that a test can interrupt."""

from __future__ import annotations

import sys

from tidalkin.config import Catalog
from tidalkin.sources.hsc.sql import query_catalog

if __name__ == "__main__":
    query_catalog(Catalog.model_validate_json(sys.argv[1]), sys.argv[2])
