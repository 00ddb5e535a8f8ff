"""tidegate_app.py, to be looked into.  Usage: profiled_app.py [--cprofile FILE] [--compression] PORT

A profiler that is not our parent may attach (Yama's ptrace_scope 1 forbids that otherwise, to all but root). With
--cprofile SIGUSR1 begins the profile and SIGUSR2 writes it to FILE.
"""

import cProfile
import ctypes
import runpy
import signal
import sys
from pathlib import Path

PR_SET_PTRACER = 0x59616D61
PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)

# Refused by kernels without Yama, where nothing forbids it either.
ctypes.CDLL(None).prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0)

if "--cprofile" in sys.argv:
    file = sys.argv[sys.argv.index("--cprofile") + 1]
    profile = cProfile.Profile()

    def write() -> None:
        profile.disable()
        profile.dump_stats(file)

    signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
    signal.signal(signal.SIGUSR2, lambda *_: write())

runpy.run_path(str(Path(__file__).with_name("tidegate_app.py")), run_name="__main__")
