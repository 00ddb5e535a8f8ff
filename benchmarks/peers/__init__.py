"""The servers that are measured: how each is started, asked for its version, and ended."""

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
NODE_MODULES = HERE.parent / "node_modules"
START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 5


class PeerError(Exception):
    """A peer did not start, or died while it was measured."""


@dataclass(frozen=True)
class Peer:
    """command: takes the port as its last argument."""

    name: str
    command: tuple[str, ...]

    def versions(self) -> dict[str, str]:
        return _node_versions() if self.command[0] == "node" else _python_versions(self.name)


TIDEGATE = "tidegate"
NODE = "node"
PYTHON_SOCKETIO = "python-socketio"
PEERS = {
    peer.name: peer
    for peer in (
        Peer(TIDEGATE, (sys.executable, str(HERE / "tidegate_app.py"))),
        Peer(NODE, ("node", str(HERE / "node_sio.js"))),
        Peer(PYTHON_SOCKETIO, (sys.executable, str(HERE / "psio_aiohttp.py"))),
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
def running(peer: Peer, core: int) -> Iterator[RunningPeer]:
    """`peer` listening on a free port, pinned to `core`; it has ended when the block is left."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        log = Path(folder) / "log"
        port = _free_port()
        # taskset executes the command in its own place, so the pid is the server's.
        command = ["taskset", "-c", str(core), *peer.command, str(port)]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        started = RunningPeer(port, process, log)
        try:
            _wait_until_listening(started)
            yield started
        finally:
            _end(process)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


def _wait_until_listening(peer: RunningPeer) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        peer.check_alive()
        try:
            socket.create_connection(("127.0.0.1", peer.port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise PeerError(f"not listening after {START_TIMEOUT_S} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _node_versions() -> dict[str, str]:
    found = {}
    for package in ("socket.io", "ws", "bufferutil"):
        manifest = NODE_MODULES / package / "package.json"
        if manifest.exists():
            found[package] = json.loads(manifest.read_text())["version"]
    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
    return {"node": node.stdout.strip().removeprefix("v"), **found}


def _python_versions(name: str) -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for package in (name, "aiohttp", "uvloop"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
