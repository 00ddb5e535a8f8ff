"""Puts tidegate under the load of one cell of the benchmarks, with a profiler watching: scripts/profile --help."""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import plan
from benchmarks.measure import SIOLOAD, Cores, raise_descriptor_limit
from benchmarks.peers import BUILD, HERE, PEERS, TIDEGATE, Peer, PeerError, exit_on_sigterm, running
from benchmarks.plan import Cell, Timing
from benchmarks.profilers import Profiler, ProfilerError, available

DEFAULT_SECONDS = 10
CONNECTS_PER_SECOND = 3000  # a connect has no duration of its own: this many are about a second's work


def main() -> int:
    exit_on_sigterm()
    options = _options()
    cells = {cell.name: cell for cell in plan.CELLS if TIDEGATE in cell.peers}
    if options.cell not in cells:
        print("CELL is one of:", *(f"  {name:26} {cell.title}" for name, cell in cells.items()), sep="\n")
        return 2
    cell = cells[options.cell]
    folder = options.out or BUILD / "profiles" / cell.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tools = available(folder, native=not options.python_only)
    if options.tool and options.tool not in tools:
        print(f"{options.tool} is not installed; there is {', '.join(tools)}", file=sys.stderr)
        return 2
    tool = options.tool or next(iter(tools))
    if tool == "cprofile" and not options.tool:
        print("py-spy is not installed (scripts/venv python3 dev,profile); cProfile is used", file=sys.stderr)
    try:
        result = profile(cell, tools[tool], options.seconds)
        reports = [profiler.report(f"tidegate, {cell.title}") for profiler in tools[tool]]
    except (PeerError, ProfilerError) as e:
        print(f"scripts/profile: {e}", file=sys.stderr)
        return 1
    print(_summary(cell, result))
    for profiler, (path, table) in zip(tools[tool], reports, strict=True):
        print("", f"{profiler.name}: {os.path.relpath(path)}", table, sep="\n")
    if not options.no_open:
        _open(reports[0][0])
    return 0


def profile(cell: Cell, profilers: list[Profiler], seconds: float) -> dict[str, Any]:
    """sioload's result; the profilers have watched while it measured.  Raises: PeerError, ProfilerError."""
    cores = Cores.of_this_machine()
    raise_descriptor_limit(cell.descriptors)
    command = (sys.executable, str(HERE / "profiled_app.py"))
    server_options = tuple(option for profiler in profilers for option in profiler.server_options())
    with running(
        Peer(TIDEGATE, command, PEERS[TIDEGATE].versions), cores.server, server_options + cell.server
    ) as server:
        pid = server.process.pid
        options = cell.load_options(cell.transport, Timing(measured=seconds, warmup=1))
        if cell.mode == "connect":
            options += ["--clients", str(int(CONNECTS_PER_SECOND * seconds))]
        load = ["taskset", "-c", str(cores.load), str(SIOLOAD), "--port", str(server.port), "--server-pid", str(pid)]
        with subprocess.Popen(
            [*load, "--server-core", str(cores.server), "--announce", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as loading:
            try:
                _wait_for(loading, "measuring")
                for profiler in profilers:
                    profiler.start(pid)
                _wait_for(loading, "measured")
                for profiler in profilers:
                    profiler.stop()
                out, _ = loading.communicate()
            finally:
                loading.kill()  # of no effect when it has ended
        server.check_alive()
    result: dict[str, Any] = json.loads(out)
    return result


def _wait_for(loading: subprocess.Popen[str], word: str) -> None:
    assert loading.stderr
    said = []
    for line in loading.stderr:
        if line.strip() == f"sioload: {word}":
            return
        said.append(line)
    raise PeerError(f"the load ended before it was {word}: {''.join(said).strip()[-300:]}")


def _summary(cell: Cell, result: dict[str, Any]) -> str:
    measure = cell.measures[0]
    lines = [cell.title]
    if measure.key in result:
        lines.append(f"{result[measure.key] * measure.scale:.1f} {measure.unit}, slowed by the profiler")
    user, kernel = result.get("server_user_s", 0), result.get("server_sys_s", 0)
    if user + kernel:
        lines.append(f"CPU of the server: {user:.1f} s in the process, {kernel:.1f} s in the kernel")
    return "\n".join(lines)


def _open(path: Path) -> None:
    """In a browser, when somebody sits in front of a display."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    opener = os.environ.get("BROWSER") or shutil.which("xdg-open")
    if opener:
        subprocess.Popen([opener, str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/profile", description=__doc__)
    parser.add_argument("cell", metavar="CELL", nargs="?", help="a cell of scripts/bench; without it they are listed")
    parser.add_argument("--seconds", type=float, default=DEFAULT_SECONDS, help=f"({DEFAULT_SECONDS})")
    parser.add_argument("--tool", choices=("py-spy", "cprofile", "perf"), help="instead of the best that is installed")
    parser.add_argument("--python-only", action="store_true", help="py-spy: leave native frames out")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="(benchmarks/build/profiles/CELL; it is emptied)")
    parser.add_argument("--no-open", action="store_true", help="only print, even where there is a display")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
