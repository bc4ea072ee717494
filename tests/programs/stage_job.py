"""Run an empty job, or one with a child process.

The child computes for a second, in one gigabyte of memory. Arguments: the log, the folder of the workflow's scripts,
and `child` or nothing.
"""

import subprocess
import sys
from types import SimpleNamespace

from tidalkin.stage import stage

log, scripts, *child = sys.argv[1:]
with stage(SimpleNamespace(log=[log], scriptdir=scripts, config={}, params={})):
    if child:
        work = 'import time\npages = bytearray(b"1") * 10**9\nwhile time.process_time() < 1: pass'
        subprocess.run([sys.executable, "-c", work], check=True)
