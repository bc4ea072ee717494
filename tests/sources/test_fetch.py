"""A chunk is fetched in the same way from every source."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def loaded_modules(root: Path, *names: str) -> set[str]:
    """List the modules that importing ``names`` loads, in a process of its own."""
    command = [sys.executable, "-m", "servers.loaded_modules", *names]
    done = subprocess.run(command, cwd=root / "tests", capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_source_without_a_server_does_not_import_an_http_client(root: Path) -> None:
    loaded = loaded_modules(root, "tidalkin.sources.fetch", "tidalkin.sources.folder")
    assert "tidalkin.sources.folder" in loaded
    assert "httpx" not in loaded
