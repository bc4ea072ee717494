"""Test double of HSC's cutout service, on loopback and with planned faults.

`HscServer` is the HTTP side: it counts connections, checks the password, and hands a request to the service mounted at
its path. `CutoutService` makes simulated cutouts, fast, and always the same for the same line.

    with HscServer() as server:
        service = CutoutService()
        server.mount("/das_cutout/pdr3/cgi-bin/cutout", service.answer)
        ... server.url("/das_cutout/pdr3") ...

As a command it serves until its standard input closes, at most for ``--seconds`` (see `main`).
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import re
import socket
import struct
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from tidalkin.cutouts.write import write_cutout

USER, PASSWORD = "astronomer", "a-very-secret-passphrase"
CUTOUT_PATH = "/das_cutout/pdr3/cgi-bin/cutout"
PIXEL_SCALE_ARCSEC = 0.168
TEMPLATE_RA, TEMPLATE_DEC = 150.0, 2.0
GATHER_BYTES = 1 << 18
TEN_GIGABYTES = 10 * 1000**3

ANSWER_FAULTS = (
    "401",
    "403",
    "429",
    "429-retry-after",
    "500",
    "503",
    "html",
    "html-as-tar",
    "refused",
    "slow-first-byte",
)
"""Faults of a whole answer."""
STREAM_FAULTS = (
    "slow-stream",
    "stalled",
    "reset",
    "truncated",
    "truncated-between-members",
    "damaged-header",
    "huge-member",
    "huge-pax-header",
)
"""Faults that end (or slow) the stream at one line's member."""
MEMBER_FAULTS = (
    "missing-member",
    "double-member",
    "duplicate-line",
    "foreign-member",
    "path-traversal",
    "absolute-path",
    "symlink",
    "hard-link",
    "wrong-filter",
    "corrupt-fits",
    "not-fits",
    "short-fits",
    "empty-member",
    "other-place",
    "other-size",
)
"""Faults of one line's member, in a stream that ends correctly."""


class Reset(Exception):
    """Reset the connection without an answer."""


class HscServer:
    """The HTTP side, on loopback only, closed at the end of its ``with`` block.

    Parameters
    ----------
    connection_limit : int, optional
        Connections beyond this are refused.
    """

    def __init__(self, connection_limit: int | None = None) -> None:
        self.routes: dict[tuple[str, str], Callable[[Handler], None]] = {}
        self.connections = 0
        self.most_connections = 0
        self.refused = 0
        self.user_agents: set[str] = set()
        self.seconds_per_header_byte = 0.0
        """Pause after each byte of the headers of every answer."""
        self._open = 0
        self._lock = threading.Lock()
        self._limit = connection_limit
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self._http.hsc = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> HscServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._http.server_address[1]}"

    def url(self, path: str = "") -> str:
        return f"http://{self.host}{path}"

    def mount(self, path: str, answer: Callable[[Handler], None], method: str = "POST") -> None:
        """Let ``answer`` answer requests for paths that begin with ``path``."""
        self.routes[method, path] = answer

    def opened(self) -> bool:
        """Count a new connection; false if it is one too many."""
        with self._lock:
            if self._limit is not None and self._open >= self._limit:
                self.refused += 1
                return False
            self._open += 1
            self.connections += 1
            self.most_connections = max(self.most_connections, self._open)
            return True

    def closed(self) -> None:
        with self._lock:
            self._open -= 1


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    disable_nagle_algorithm = True

    def handle(self) -> None:
        hsc: HscServer = self.server.hsc
        if not hsc.opened():
            self.reset()
            return
        try:
            super().handle()
        except (Reset, ConnectionError):
            self.reset()
        finally:
            hsc.closed()

    def reset(self) -> None:
        self.close_connection = True
        # Linger of zero seconds: the other side sees a reset instead of an end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def do_POST(self) -> None:
        self._dispatch("POST")

    def do_GET(self) -> None:
        self._dispatch("GET")

    def do_DELETE(self) -> None:
        self._dispatch("DELETE")

    def _dispatch(self, method: str) -> None:
        hsc: HscServer = self.server.hsc
        hsc.user_agents.add(self.headers.get("User-Agent", ""))
        for (its_method, path), answer in hsc.routes.items():
            if its_method == method and self.path.startswith(path):
                answer(self)
                return
        self.reply(404, b"no such page", "text/plain")

    def authorized(self) -> bool:
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return self.headers.get("Authorization") == expected

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def flush_headers(self) -> None:
        """Send the headers, byte by byte if the server is told so."""
        hsc: HscServer = self.server.hsc
        if not hsc.seconds_per_header_byte:
            super().flush_headers()
            return
        for byte in b"".join(self._headers_buffer):
            self.wfile.write(bytes([byte]))
            time.sleep(hsc.seconds_per_header_byte)
        self._headers_buffer = []

    def reply(self, status: int, content: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def send_chunked(self, pieces: Iterator[bytes], kind: str, bytes_per_second: float = float("inf")) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        began, sent = time.monotonic(), 0
        for piece in pieces:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            sent += len(piece)
            time.sleep(max(0.0, sent / bytes_per_second - (time.monotonic() - began)))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Request:
    """A request as the server saw it."""

    lines: list[str]
    finished: bool = False


@dataclass
class CutoutService:
    """The cutout service.

    Lines are known by their whole text. The archive has no data for about one line in ``absent_every``, and one
    position in ``overlap_every`` comes from two tracts, the higher first; both are fixed by a hash of the position.
    """

    absent_every: int = 0
    overlap_every: int = 0
    seconds_per_member: float = 0.0
    stall_seconds: float = 2.0
    bytes_per_second: float = float("inf")
    """Rate of one connection."""
    answer_status: int = 200
    """Status of every answer; a redirect leads to a login page."""
    echo: bool = False
    """Whether every answer is an error that holds all that the client sent."""
    seconds_per_byte: float = 0.0
    """Pause after each byte of an answer that never becomes a tar; 0 for none."""
    is_empty: bool = False
    """Whether every answer is a tar without members."""
    faults: dict[str, list[str]] = field(default_factory=dict)
    """Kinds of faults by line, each used up by the first request that comes to the line."""
    requests: list[Request] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    # --- the sky ---------------------------------------------------------------------------------------------------

    def tracts(self, line: dict[str, str]) -> list[int]:
        """List the tracts that have data for a line, in the order of sending."""
        position = hashlib.blake2b(f"{line['ra']} {line['dec']}".encode(), digest_size=8).digest()
        number = int.from_bytes(position[:4])
        of_line = int.from_bytes(hashlib.blake2b(position + line["filter"].encode(), digest_size=4).digest())
        if self.absent_every and of_line % self.absent_every == 0:
            return []
        tract = 8000 + number % 2000
        overlaps = self.overlap_every and int.from_bytes(position[4:]) % self.overlap_every == 0
        return [tract + 1, tract] if overlaps else [tract]

    def expected(self, text: str) -> bytes | None:
        """Make the cutout that a client should keep for a line, or None without data.

        The line has the usual columns.
        """
        line = dict(zip(_COLUMNS, text.split(), strict=True))
        tracts = self.tracts(line)
        return cutout(line, min(tracts)) if tracts else None

    # --- the protocol ----------------------------------------------------------------------------------------------

    def answer(self, handler: Handler) -> None:
        lines = list(_parse(handler.headers["Content-Type"], handler.body()))
        texts = [line["text"] for line in lines]
        request = Request(texts)
        with self._lock:
            self.requests.append(request)
        whole = self._answer_fault(texts)
        if whole == "slow-first-byte":
            time.sleep(0.1)
            whole = self._answer_fault(texts)
        if not handler.authorized() or whole == "401":
            handler.reply(401, b"<html>Unauthorized</html>", "text/html", WWW_Authenticate='Basic realm="HSC"')
            return
        if len(lines) > 1000:
            handler.reply(500, b"too many lines", "text/plain")
            return
        if self.echo:
            sent = f"{handler.headers} {texts[0]} {password_sent(handler)}"
            handler.reply(200, sent.encode(), f"text/{password_sent(handler)}")
            return
        if self.answer_status != 200:
            handler.reply(self.answer_status, b"no", "text/html", Location="https://login.example.org/?next=x")
            return
        if self.seconds_per_byte:
            handler.send_chunked(self._trickle(), "application/x-tar")
            return
        if whole.startswith(("4", "5")):
            headers = {"Retry_After": "1"} if whole == "429-retry-after" else {}
            handler.reply(int(whole[:3]), b"no", "text/plain", **headers)
        elif whole == "refused":
            raise Reset
        elif whole == "html":
            handler.reply(200, b"<html>The service is under maintenance</html>", "text/html; charset=utf-8")
        elif whole == "html-as-tar":
            handler.reply(200, b"<html>" + b"The service is under maintenance" * 40, "application/x-tar")
        else:
            handler.send_chunked(_gathered(self._tar(lines)), "application/x-tar", self.bytes_per_second)
            request.finished = True

    def _trickle(self) -> Iterator[bytes]:
        for _ in range(500):
            time.sleep(self.seconds_per_byte)
            yield b"a"

    def _answer_fault(self, texts: Sequence[str]) -> str:
        return next((kind for text in texts if (kind := self._fault(text, ANSWER_FAULTS))), "")

    def _fault(self, text: str, kinds: Sequence[str]) -> str:
        """Use up a line's planned fault of these kinds; return an empty text without one."""
        with self._lock:
            planned = self.faults.get(text)
            return planned.pop(0) if planned and planned[0] in kinds else ""

    def _tar(self, lines: Sequence[dict[str, str]]) -> Iterator[bytes]:
        """Yield the pieces of the tar stream; an empty piece flushes the pieces before it."""
        for number, line in enumerate(() if self.is_empty else lines, start=2):
            kind = self._fault(line["text"], STREAM_FAULTS + MEMBER_FAULTS) if self.faults else ""
            if self.seconds_per_member:
                time.sleep(self.seconds_per_member)
                yield b""
            members = [(_name(number, line, tract), cutout(line, tract)) for tract in self.tracts(line)]
            if not kind or kind == "missing-member":
                for name, content in members if not kind else ():
                    yield from _member(name, content)
                continue
            whole = b"".join(part for name, content in members for part in _member(name, content))
            if kind == "slow-stream":
                for start in range(0, len(whole), 2048):
                    yield whole[start : start + 2048]
                    yield b""
                    time.sleep(0.002)
            elif kind in STREAM_FAULTS:
                yield from self._broken(kind, whole)
                return
            else:
                yield from self._odd(kind, number, line, members, whole)
        yield bytes(2 * tarfile.BLOCKSIZE)

    def _broken(self, kind: str, whole: bytes) -> Iterator[bytes]:
        """Yield the end of a stream that breaks off."""
        if kind in ("truncated", "reset", "stalled"):
            yield whole[: len(whole) // 2]
        if kind == "damaged-header":
            yield b"\x07" * tarfile.BLOCKSIZE + whole
        if kind in ("huge-member", "huge-pax-header"):
            info = tarfile.TarInfo("arch-1-1/2-cutout-HSC-G-1-pdr3_wide.fits")
            info.size = TEN_GIGABYTES
            info.type = tarfile.XHDTYPE if kind == "huge-pax-header" else tarfile.REGTYPE
            yield info.tobuf(tarfile.GNU_FORMAT)
            for _ in range(3000):
                yield bytes(1 << 14)
        yield b""
        if kind == "stalled":
            time.sleep(self.stall_seconds)
            raise Reset
        if kind == "reset":
            raise Reset

    def _odd(
        self, kind: str, number: int, line: dict[str, str], members: list[tuple[str, bytes]], whole: bytes
    ) -> Iterator[bytes]:
        """Yield faulty members of a line, instead of its members or beside them."""
        name, content = members[-1] if members else (_name(number, line, 8000), cutout(line, 8000))
        if kind == "double-member":  # the same position, from one more tract
            tract = max(self.tracts(line), default=8000) + 1
            yield whole
            yield from _member(_name(number, line, tract), cutout(line, tract))
        elif kind == "duplicate-line":
            yield whole + whole
        elif kind == "foreign-member":
            yield from _member(_name(90_000, line, 8000), content)
            yield whole
        elif kind in ("path-traversal", "absolute-path"):
            yield from _member("../../escaped" if kind == "path-traversal" else "/tmp/escaped", content)
            yield whole
        elif kind in ("symlink", "hard-link"):
            info = tarfile.TarInfo(name)
            info.type = tarfile.SYMTYPE if kind == "symlink" else tarfile.LNKTYPE
            info.linkname = "/etc/passwd"
            yield info.tobuf(tarfile.USTAR_FORMAT)
        else:
            for name, content in members:
                yield from _member(*_spoiled(kind, name, content))


def _spoiled(kind: str, name: str, content: bytes) -> tuple[str, bytes]:
    """Make a member with a fault."""
    if kind == "wrong-filter":
        return re.sub(r"HSC-.", "HSC-X", name), content
    if kind == "corrupt-fits":  # the image's NAXIS1 is overwritten
        position = content.index(b"NAXIS1")
        return name, content[:position] + b"\xff" * 40 + content[position + 40 :]
    if kind == "not-fits":
        return name, b"<html>internal error</html>"
    if kind == "short-fits":
        return name, content[: len(content) * 2 // 3]
    if kind == "other-place":  # a minute of arc further north
        at = content.index(b"CRVAL2  =") + 10
        dec = b"%20s" % (b"%.10f" % (float(content[at : at + 20]) + 1 / 60))
        return name, content.replace(content[at : at + 20], dec)
    if kind == "other-size":
        filter_name = re.search(r"HSC-.", name)[0]
        ra, dec = (float(content.partition(b"CRVAL%d  =" % axis)[2][:21]) for axis in (1, 2))
        half = 20 * PIXEL_SCALE_ARCSEC / 3600
        line = {"filter": filter_name, "mask": "true", "variance": "true"}
        return name, cutout(line | {"ra": str(ra), "dec": str(dec), "sw": str(half)}, 8000)
    assert kind == "empty-member", kind
    return name, b""


def password_sent(handler: Handler) -> str:
    """Decode the password that the client sent."""
    return base64.b64decode(handler.headers["Authorization"].split()[1]).decode().partition(":")[2]


_COLUMNS = ("rerun", "type", "filter", "tract", "ra", "dec", "sw", "sh", "image", "mask", "variance")


def _parse(content_type: str, body: bytes) -> Iterator[dict[str, str]]:
    """Yield the lines of a request, with columns in any order, as the manual allows."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)[1].encode()
    part = next(part for part in body.split(b"--" + boundary) if b'name="list"' in part)
    listed = part.split(b"\r\n\r\n", 1)[1].decode().strip().splitlines()
    columns = re.fullmatch(r"#\?\s*(.*)", listed[0])[1].split()
    for text in listed[1:]:
        yield {"text": text, **dict(zip(columns, text.split(), strict=True))}


def _name(number: int, line: dict[str, str], tract: int) -> str:
    kind = {"coadd": "cutout", "coadd/bg": "coadd+bg"}[line["type"]]
    return f"arch-210101-120000/{number}-{kind}-{line['filter']}-{tract}-{line['rerun']}.fits"


@lru_cache(1)
def _header(size: int) -> tuple[bytes, int]:
    info = tarfile.TarInfo()
    info.size = size
    buffer = info.tobuf(tarfile.USTAR_FORMAT)
    return buffer, sum(buffer[:148]) + sum(buffer[156:]) + 8 * 32


def _member(name: str, content: bytes) -> tuple[bytes, bytes, bytes]:
    """Make header, content and padding of a tar member.

    The header is patched, because this server must be fast.
    """
    buffer, base = _header(len(content))
    encoded = name.encode()
    checksum = b"%06o\0 " % (base + sum(encoded))
    header = encoded.ljust(100, b"\0") + buffer[100:148] + checksum + buffer[156:]
    return header, content, bytes(-len(content) % tarfile.BLOCKSIZE)


@lru_cache(64)
def _template(filter_name: str, width: int, mask: bool, variance: bool) -> tuple[bytes, bytes]:
    """Make a cutout in two parts, without eight bytes of the image between them."""
    image = np.random.default_rng(width).normal(0, 0.03, (width, width)).astype(np.float32)
    content = write_cutout(
        image,
        np.zeros((width, width), np.int32) if mask else None,
        np.full((width, width), 9e-4, np.float32) if variance else None,
        band=filter_name[-1].lower(),
        ra=TEMPLATE_RA,
        dec=TEMPLATE_DEC,
        fluxmag0=10 ** (0.4 * 27),
        mask_planes={"BAD": 0, "SAT": 1, "INTRP": 2, "CR": 3, "EDGE": 4, "DETECTED": 5, "NO_DATA": 8},
    )
    start = content.index(image.astype(">f4").tobytes())
    return content[:start], content[start + 8 :]


def _moved(headers: bytes, ra: float, dec: float) -> bytes:
    """Move the headers of images to another position."""
    for axis, old, new in ((1, TEMPLATE_RA, ra), (2, TEMPLATE_DEC, dec)):
        card = b"CRVAL%d  = %20s"
        headers = headers.replace(card % (axis, repr(old).encode()), card % (axis, b"%.10f" % new))
    return headers


def cutout(line: dict[str, str], tract: int) -> bytes:
    """Make the cutout of a line, with other bytes for each line and tract."""
    width = round(2 * float(line["sw"]) * 3600 / PIXEL_SCALE_ARCSEC)
    parts = _template(line["filter"], width, line["mask"] == "true", line["variance"] == "true")
    before, after = (_moved(part, float(line["ra"]), float(line["dec"])) for part in parts)
    stamp = hashlib.blake2b(f"{line['ra']} {line['dec']} {line['filter']} {tract}".encode(), digest_size=4).digest()
    return before + struct.pack(">2f", int.from_bytes(stamp[:2]), int.from_bytes(stamp[2:])) + after


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join pieces to larger ones; an empty piece flushes them."""
    buffer = io.BytesIO()
    for piece in pieces:
        buffer.write(piece)
        if buffer.tell() and (not piece or buffer.tell() >= GATHER_BYTES):
            yield buffer.getvalue()
            buffer = io.BytesIO()
    if buffer.tell():
        yield buffer.getvalue()


def main() -> None:
    """Print the address, and serve cutouts until standard input ends or ``--seconds`` are over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--connection-limit", type=int)
    parser.add_argument("--bytes-per-second", type=float, default=float("inf"), help="rate of one connection")
    arguments = parser.parse_args()
    with HscServer(arguments.connection_limit) as server:
        server.mount(CUTOUT_PATH, CutoutService(bytes_per_second=arguments.bytes_per_second).answer)
        print(server.url("/das_cutout/pdr3"), flush=True)
        waiting = threading.Thread(target=sys.stdin.read, daemon=True)
        waiting.start()
        waiting.join(arguments.seconds)


if __name__ == "__main__":
    main()
