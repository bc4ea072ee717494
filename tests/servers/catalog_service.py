"""Test double of HSC's catalog server, with jobs, gzipped results and planned faults.

with HscServer() as server:
    service = CatalogService(rows)
    service.mount(server)
    ... server.url(CATALOG_PATH) ...
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from servers.hsc_server import PASSWORD, USER, Handler, HscServer, Reset

CATALOG_PATH = "/datasearch/api/catalog_jobs"
METHODS = ("preview", "submit", "status", "download", "delete")


@dataclass
class CatalogService:
    """A catalog server on which every query finds ``table``.

    ``faults`` are planned by method, and each is used up by one request. A fault is an HTTP status, ``reset``,
    ``html``, ``truncated``, ``silent``, ``slow``, or ``echo``, an error that holds all that was sent. For ``status`` it
    may also be ``error: MESSAGE``. For ``preview`` and ``submit`` it may be ``406: MESSAGE``. For ``download`` it may
    be an ``endless`` table, or one that unpacks to 64 MiB of a ``row`` or of a ``comment``.
    """

    table: str
    looks_until_done: int = 2
    comments: str = "# from the test server\n"
    faults: dict[str, list[str]] = field(default_factory=dict)
    jobs: dict[int, int] = field(default_factory=dict)
    """Looks at each job's status so far; a deleted job is gone."""
    asked: list[tuple[str, dict]] = field(default_factory=list)
    deleted: list[int] = field(default_factory=list)
    silence_seconds: float = 1.0
    _numbers: itertools.count = field(default_factory=lambda: itertools.count(1001))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def mount(self, server: HscServer) -> None:
        server.mount(CATALOG_PATH, self.answer)

    @property
    def calls(self) -> Counter[str]:
        return Counter(method for method, _ in self.asked)

    def answer(self, handler: Handler) -> None:
        method = handler.path.rsplit("/", 1)[1]
        content = json.loads(handler.body())
        with self._lock:
            self.asked.append((method, content))
            planned = self.faults.get(method)
            fault = planned.pop(0) if planned else ""
        credential = content["credential"]
        if (credential["account_name"], credential["password"]) != (USER, PASSWORD):
            handler.reply(401, b"no", "text/plain")
        elif fault == "reset":
            raise Reset
        elif fault == "silent":
            time.sleep(self.silence_seconds)
            raise Reset
        elif fault == "echo":
            message = f"cannot run {json.dumps(content)} {content}"
            handler.reply(
                406 if method in ("preview", "submit") else 500, json.dumps({"error": message}).encode(), "text"
            )
        elif fault == "slow":
            handler.send_chunked((time.sleep(0.05) or b" " for _ in range(200)), "application/json")
        elif fault == "html":
            handler.reply(200, b"<html>under maintenance</html>", "text/html")
        elif fault[:3].isdecimal():
            message = json.dumps({"error": fault[4:].strip()}).encode()
            handler.reply(
                int(fault[:3]), message, "application/json", **({"Retry_After": "0"} if fault == "429" else {})
            )
        else:
            getattr(self, f"_{method}")(handler, content, fault)

    def _reply(self, handler: Handler, answer: object) -> None:
        handler.reply(200, json.dumps(answer).encode(), "application/json")

    def _preview(self, handler: Handler, content: dict, _: str) -> None:
        assert content["catalog_job"]["sql"].startswith("SELECT COUNT(*)")
        rows = [[len(self.table.strip().splitlines()) - 1]]
        self._reply(handler, {"result": {"fields": ["count"], "rows": rows, "count": 1}})

    def _submit(self, handler: Handler, content: dict, _: str) -> None:
        assert content["catalog_job"]["out_format"] == "csv.gz"
        with self._lock:
            number = next(self._numbers)
            self.jobs[number] = 0
        self._reply(handler, {"id": number, "status": "waiting"})

    def _status(self, handler: Handler, content: dict, fault: str) -> None:
        number = content["id"]
        self.jobs[number] += 1
        if fault.startswith("error:"):
            self._reply(handler, {"id": number, "status": "error", "error": fault[6:].strip()})
            return
        done = self.jobs[number] >= self.looks_until_done
        self._reply(handler, {"id": number, "status": "done" if done else "started"})

    def _download(self, handler: Handler, content: dict, fault: str) -> None:
        assert self.jobs[content["id"]] >= self.looks_until_done
        if fault == "endless":
            handler.send_chunked(itertools.repeat(os.urandom(1 << 20), 1024), "application/octet-stream")
            return
        if fault in ("row", "comment"):
            start = gzip.compress(b"# " if fault == "comment" else b"object_id\n")
            handler.reply(200, start + 64 * gzip.compress((1 << 20) * b"1"), "application/octet-stream")
            return
        whole = gzip.compress((self.comments + "# " + self.table).encode())
        if fault == "truncated":  # as a whole answer, so that only the file itself can tell
            whole = whole[: len(whole) // 2]
        handler.reply(200, whole, "application/octet-stream")

    def _delete(self, handler: Handler, content: dict, _: str) -> None:
        with self._lock:
            known = self.jobs.pop(content["id"], None) is not None
            self.deleted.append(content["id"])
        handler.reply(200 if known else 404, b"{}", "application/json")
