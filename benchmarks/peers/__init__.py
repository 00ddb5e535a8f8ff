"""The servers that are measured: how each is started, asked for its version, and ended."""

import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parent / "build"
NODE_MODULES = HERE.parent / "node_modules"
BUN_MODULES = HERE.parent / "bun" / "node_modules"
START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 5


def exit_on_sigterm() -> None:
    """Let SIGTERM end this program as an error would, so that what it has started is ended too."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


class PeerError(Exception):
    """A peer did not start, or died while it was measured."""


@dataclass(frozen=True)
class Peer:
    """command: takes the port as its last argument, before it what a cell wants of the server."""

    name: str
    command: tuple[str, ...]
    versions: Callable[[], dict[str, str]]


def _python_versions(name: str) -> Callable[[], dict[str, str]]:
    def versions() -> dict[str, str]:
        found = {"python": sys.version.split()[0]}
        for package in (name, "aiohttp", "uvloop"):
            try:
                found[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                found[package] = "not installed"
        return found

    return versions


def _package_versions(modules: Path, *packages: str) -> dict[str, str]:
    manifests = {package: modules / package / "package.json" for package in packages}
    return {package: json.loads(file.read_text())["version"] for package, file in manifests.items() if file.exists()}


def _node_versions() -> dict[str, str]:
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    packages = _package_versions(NODE_MODULES, "socket.io", "ws", "bufferutil")
    return {"node": node.stdout.strip().removeprefix("v"), **packages}


def _bun_versions() -> dict[str, str]:
    return _package_versions(BUN_MODULES, "bun", "socket.io", "@socket.io/bun-engine")


def _floor_versions() -> dict[str, str]:
    compiler = subprocess.run(["cc", "--version"], capture_output=True, text=True, check=False)
    return {"cc": compiler.stdout.partition("\n")[0]}


def _bun() -> list[Peer]:
    """Bun's own engine, if its packages are installed; the program itself, not the script that looks for it."""
    programs = sorted((BUN_MODULES / "@oven").glob("bun-linux-*/bin/bun"))
    return [Peer(BUN, (str(programs[0]), str(HERE / "bun_sio.js")), _bun_versions)] if programs else []


TIDEGATE = "tidegate"
NODE = "node"
PYTHON_SOCKETIO = "python-socketio"
BUN = "bun"
FLOOR = "c_floor"
FLOOR_COALESCE = "c_floor_coalesce"
PEERS = {
    peer.name: peer
    for peer in (
        Peer(TIDEGATE, (sys.executable, str(HERE / "tidegate_app.py")), _python_versions(TIDEGATE)),
        Peer(NODE, ("node", str(HERE / "node_sio.js")), _node_versions),
        Peer(PYTHON_SOCKETIO, (sys.executable, str(HERE / "psio_aiohttp.py")), _python_versions(PYTHON_SOCKETIO)),
        *_bun(),
        Peer(FLOOR, (str(BUILD / "floor"),), _floor_versions),
        Peer(FLOOR_COALESCE, (str(BUILD / "floor"), "--coalesce"), _floor_versions),
    )
}


@dataclass(frozen=True)
class RunningPeer:
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def check_alive(self) -> None:
        """Raises: PeerError with the last words of a peer that has ended."""
        if self.process.poll() is not None:
            words = self.log.read_text(errors="replace").strip().splitlines()
            last = words[-1][-200:] if words else "no output"
            raise PeerError(f"exited with {self.process.returncode}: {last}")


@contextmanager
def running(peer: Peer, core: int, options: tuple[str, ...] = ()) -> Iterator[RunningPeer]:
    """`peer` with `options`, listening on a free port, pinned to `core`; it has ended when the block is left."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        log = Path(folder) / "log"
        port = free_port()
        # taskset executes the command in its own place, so the pid is the server's.
        command = ["taskset", "-c", str(core), *peer.command, *options, str(port)]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        started = RunningPeer(port, process, log)
        try:
            wait_until_listening(started)
            yield started
        finally:
            end(process)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def wait_until_listening(peer: RunningPeer) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        peer.check_alive()
        try:
            socket.create_connection(("127.0.0.1", peer.port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise PeerError(f"not listening after {START_TIMEOUT_S} s")


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
