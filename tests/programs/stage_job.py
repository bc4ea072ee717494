"""Run an empty job, or one with a child process or a failing thread.

The child computes for a second, in one gigabyte of memory. Arguments: the log, the folder of the workflow's scripts,
and `child`, `full-disk`, `fault`, `exit` or nothing.
"""

import subprocess
import sys
import threading
from types import SimpleNamespace

from tidalkin.redaction import keep_secret
from tidalkin.stage import stage

FAULTS = {
    "full-disk": OSError(28, "No space left on device"),
    "fault": ValueError("wrong answer to hunter2"),
    "exit": SystemExit(1),
}


def fail(error: BaseException) -> None:
    raise error


log, scripts, *what = sys.argv[1:]
with stage(SimpleNamespace(log=[log], scriptdir=scripts, config={}, params={})):
    if what == ["child"]:
        work = 'import time\npages = bytearray(b"1") * 10**9\nwhile time.process_time() < 1: pass'
        subprocess.run([sys.executable, "-c", work], check=True)
    elif what:
        keep_secret("hunter2")
        thread = threading.Thread(target=fail, args=[FAULTS[what[0]]], name="writer")
        thread.start()
        thread.join()
