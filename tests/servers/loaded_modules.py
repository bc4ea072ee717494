"""Import the modules named as arguments, and print the names of all loaded modules."""

from __future__ import annotations

import importlib
import sys

if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    print("\n".join(sorted(sys.modules)))
