"""The limit on connections holds over processes."""

from __future__ import annotations

from pathlib import Path

from servers.hsc_run import galaxies, serve, settings, start_fetch
from servers.hsc_server import HscServer
from tidalkin.download.connections import connection_lock


def test_the_connection_limit_holds_over_processes(tmp_path: Path) -> None:
    with HscServer(connection_limit=2) as server:
        serve(server, seconds_per_member=0.002)
        cutouts = settings(server, connections=2, timeout_seconds=30)
        runs = [start_fetch(galaxies(20), cutouts, tmp_path / str(run), tmp_path / "locks") for run in range(4)]
        assert [run.wait(60) for run in runs] == [0] * 4
        assert server.refused == 0
        assert server.most_connections == 2


def test_a_slot_is_free_again_after_it_was_used(tmp_path: Path) -> None:
    for _ in range(3):
        with connection_lock("host", 1, tmp_path):
            pass
    with connection_lock("host", 2, tmp_path), connection_lock("host", 2, tmp_path):
        assert sorted(path.name for path in (tmp_path / "host").iterdir()) == ["0.lock", "1.lock"]
