"""Runs one command and prints {"seconds", "peak_mib", "code"}: its wall time and peak resident memory.

A process of its own because Linux counts the memory of whoever starts a command into that command's peak; this
one is started with -S -I and stays at a few MiB.
"""

import json
import os
import sys
import time

if __name__ == "__main__":
    start = time.perf_counter()
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1)]
    pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - start
    unit = 1 << (20 if sys.platform == "darwin" else 10)  # ru_maxrss: bytes on macOS, KiB on Linux
    print(
        json.dumps({"seconds": seconds, "peak_mib": usage.ru_maxrss / unit, "code": os.waitstatus_to_exitcode(status)})
    )
