"""Import the modules named as arguments, and print the names of all loaded modules."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path


def loaded_modules(root: Path, *names: str) -> set[str]:
    """List the modules that importing ``names`` loads, in a process of its own."""
    command = [sys.executable, "-m", "servers.loaded_modules", *names]
    done = subprocess.run(command, cwd=root / "tests", capture_output=True, text=True, check=True)
    return set(done.stdout.split())


if __name__ == "__main__":
    for name in sys.argv[1:]:
        importlib.import_module(name)
    print("\n".join(sorted(sys.modules)))
