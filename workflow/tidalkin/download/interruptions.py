"""Interruptions that wait until a critical section has ended."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self


class Interruptions:
    """Ctrl-C, SIGTERM and SIGHUP as exceptions, so that clean-up runs.

    Within `held`, they wait for the end of the block. Outside the main thread, where Python delivers no signals, this
    does nothing.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._holding = False
        self._arrived: int | None = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._arrive) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _arrive(self, number: int, _: FrameType | None) -> None:
        self._arrived = number
        if not self._holding:
            self._raise()

    def _raise(self) -> None:
        """Raise the signal that arrived, if any."""
        arrived, self._arrived = self._arrived, None
        if arrived == signal.SIGINT:
            raise KeyboardInterrupt
        if arrived is not None:
            raise SystemExit(128 + arrived)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Delay interruptions until the block has ended."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
            self._raise()
