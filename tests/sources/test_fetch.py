"""A chunk is fetched in the same way from every source."""

from __future__ import annotations

from pathlib import Path

from servers.loaded_modules import loaded_modules


def test_a_source_without_a_server_does_not_import_an_http_client(root: Path) -> None:
    loaded = loaded_modules(root, "tidalkin.sources.fetch", "tidalkin.sources.folder")
    assert "tidalkin.sources.folder" in loaded
    assert "httpx" not in loaded
