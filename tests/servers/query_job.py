"""One query of the catalog server as a command, in a process of its own that can be interrupted."""

from __future__ import annotations

import sys

from tidalkin.config import Catalog
from tidalkin.sources.hsc.sql import query_catalog

if __name__ == "__main__":
    query_catalog(Catalog.model_validate_json(sys.argv[1]), sys.argv[2])
