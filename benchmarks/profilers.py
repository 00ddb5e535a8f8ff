"""The profilers: each watches a process between start() and stop(), and leaves files in a folder.

py-spy sees Python and native frames of one stack and is preferred. cProfile counts the calls of Python functions,
which slows them; perf samples native code, and the kernel where that is allowed, but CPython before 3.12 tells it
nothing of Python functions.
"""

import contextlib
import json
import os
import platform
import pstats
import shutil
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Protocol

from benchmarks import flamegraph, stacks

RATE_HZ = 200
PERF_RATE_HZ = 499
STOP_TIMEOUT_S = 60
ROWS = 20


class ProfilerError(Exception):
    """A profiler could not be run, or left nothing."""


class Profiler(Protocol):
    name: str

    def server_options(self) -> tuple[str, ...]:
        """What profiled_app.py must be started with."""

    def start(self, pid: int) -> None: ...

    def stop(self) -> None:
        """Raises: ProfilerError."""

    def report(self, title: str) -> tuple[Path, str]:
        """The file to open, and the table to print."""


def find(program: str) -> str | None:
    """Beside this Python, or on the path."""
    return shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)


class _Recorder:
    """A program that records until SIGINT."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._process: subprocess.Popen[str] | None = None

    def server_options(self) -> tuple[str, ...]:
        return ()

    def _run(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def stop(self) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            said, _ = self._process.communicate(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise ProfilerError(f"{self.name} did not end after {STOP_TIMEOUT_S} s") from None
        self._check(said)

    def _check(self, said: str) -> None:
        raise NotImplementedError


class PySpy(_Recorder):
    def __init__(self, program: str, folder: Path, *, native: bool) -> None:
        super().__init__("py-spy")
        self._program = program
        self._folder = folder
        self._raw = folder / "stacks.txt"
        # py-spy unwinds native stacks on these only.
        self._native = ["--native"] if native and platform.machine() == "x86_64" else []

    def start(self, pid: int) -> None:
        command = [self._program, "record", "--pid", str(pid), "--format", "raw", "--output", str(self._raw)]
        self._run([*command, "--rate", str(RATE_HZ), "--duration", "unlimited", "--function", *self._native])

    def _check(self, said: str) -> None:
        if not self._raw.exists():
            raise ProfilerError(f"py-spy (--tool cprofile needs no permission): {said.strip()[-500:]}")

    def report(self, title: str) -> tuple[Path, str]:
        sampled = stacks.parse(self._raw.read_text())
        if not sampled:
            raise ProfilerError("py-spy took no samples")
        graph = self._folder / "flamegraph.svg"
        graph.write_text(flamegraph.draw(sampled, title))
        (self._folder / "speedscope.json").write_text(json.dumps(stacks.speedscope(sampled, title)))
        return graph, stacks.table(sampled, ROWS)


class Perf(_Recorder):
    def __init__(self, program: str, folder: Path) -> None:
        super().__init__("perf")
        self._program = program
        self._data = folder / "perf.data"
        self._text = folder / "perf.txt"

    def start(self, pid: int) -> None:
        command = [self._program, "record", "-q", "-F", str(PERF_RATE_HZ), "-g", "-p", str(pid)]
        self._run([*command, "-o", str(self._data)])

    def _check(self, said: str) -> None:
        if not self._data.exists():
            raise ProfilerError(f"perf: {said.strip()[-500:]}")

    def report(self, title: str) -> tuple[Path, str]:
        command = [self._program, "report", "--stdio", "--no-children", "-g", "none", "--percent-limit", "0.3"]
        command += ["--sort", "dso,symbol", "-i", str(self._data)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ProfilerError(f"perf report: {done.stderr.strip()[-500:]}")
        self._text.write_text(f"{title}\n\n{done.stdout}")
        lines = [line.rstrip(" -") for line in done.stdout.splitlines() if line.strip() and not line.startswith("#")]
        return self._text, "\n".join(lines[:ROWS])


class CProfile:
    name = "cProfile"

    def __init__(self, folder: Path) -> None:
        self._stats = folder / "cprofile.pstats"
        self._text = folder / "cprofile.txt"
        self._pid = 0

    def server_options(self) -> tuple[str, ...]:
        return ("--cprofile", str(self._stats))

    def start(self, pid: int) -> None:
        self._pid = pid
        os.kill(pid, signal.SIGUSR1)

    def stop(self) -> None:
        os.kill(self._pid, signal.SIGUSR2)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, EOFError, ValueError, TypeError):  # not there, or not whole yet
                pstats.Stats(str(self._stats))
                return
            time.sleep(0.1)
        raise ProfilerError("the server wrote no profile")

    def report(self, title: str) -> tuple[Path, str]:
        text = StringIO()
        pstats.Stats(str(self._stats), stream=text).sort_stats("tottime").print_stats(ROWS)
        self._text.write_text(f"{title}\n{text.getvalue()}")
        return self._text, text.getvalue().strip()


def available(folder: Path, *, native: bool) -> dict[str, list[Profiler]]:
    """By what --tool calls them; the first is the best that there is."""
    found: dict[str, list[Profiler]] = {}
    if program := find("py-spy"):
        found["py-spy"] = [PySpy(program, folder, native=native)]
    perf: list[Profiler] = [Perf(program, folder)] if (program := find("perf")) else []
    found["cprofile"] = [CProfile(folder), *perf]
    if perf:
        found["perf"] = perf
    return found
