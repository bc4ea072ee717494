"""Print the MiB of memory that opening an index takes: ``open_index_memory.py INDEX EMBEDDINGS``."""

import sys
from pathlib import Path

from tidalkin.index.query import open_index


def anonymous_mebibytes() -> float:
    """Return the memory of this process that is not mapped from a file, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


open_index(sys.argv[1], sys.argv[2])  # the first call imports what it needs
before = anonymous_mebibytes()
index = open_index(sys.argv[1], sys.argv[2])
print(anonymous_mebibytes() - before)
