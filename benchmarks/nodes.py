"""The clusters that ``benchmarks.scaling`` measures: nodes of one kind, Redis between them, and what they use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.brokers import OwnRedis
from benchmarks.measure import Cores
from benchmarks.peers import HERE, PeerError, RunningPeer, end, free_port, wait_until_listening

NODE_CLUSTER: Final = HERE / "node_cluster"
_SECRET: Final = "a secret for measuring"
_NODES_MEET_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True)
class System:
    """One kind of node. environment: of tidegate. adapter: of Node's socket.io, which it then is.

    workers: of tidegate's supervisor, 0 for a process without one. is_pinned: its processes share one core.
    """

    name: str
    nodes: int = 2
    redis: bool = True
    adapter: str | None = None
    environment: tuple[str, ...] = ()
    workers: int = 0
    forwards: bool = False
    is_pinned: bool = True

    def command(self, port: int, cluster_port: int, redis_url: str, folder: Path) -> list[str]:
        if self.adapter is not None:
            return ["node", str(NODE_CLUSTER / "server.js"), self.adapter, redis_url, str(port)]
        command = [str(Path(sys.executable).with_name("tidegate")), "serve", "benchmarks.peers.tidegate_node:server"]
        command += ["--port", str(port), "--runtime-dir", str(folder / f"run-{port}")]
        if self.workers:
            command += ["--workers", str(self.workers)]
        if self.forwards:
            command += ["--cluster-listen", f"127.0.0.1:{cluster_port}"]
        return command


TIDEGATE_REDIS: Final = "tidegate, Redis"
TIDEGATE_DURABLE: Final = "tidegate, Redis, durable"
NODE_REDIS: Final = "Node, redis-adapter"
NODE_STREAMS: Final = "Node, redis-streams-adapter"
TIDEGATE_ALONE: Final = "tidegate, one process"
NODE_ALONE: Final = "Node, one process"
TIDEGATE_WORKERS_1: Final = "tidegate, 1 worker"
TIDEGATE_WORKERS_2: Final = "tidegate, 2 workers"
TIDEGATE_FORWARDS: Final = "tidegate, forwarding"

SYSTEMS: Final = {
    system.name: system
    for system in (
        System(TIDEGATE_REDIS),
        System(TIDEGATE_DURABLE, environment=("BENCHMARK_DURABLE",)),
        System(NODE_REDIS, adapter="redis"),
        System(NODE_STREAMS, adapter="streams"),
        System(TIDEGATE_ALONE, nodes=1, redis=False),
        System(NODE_ALONE, nodes=1, redis=False, adapter="alone"),
        System(TIDEGATE_WORKERS_1, nodes=1, redis=False, workers=1, is_pinned=False),
        System(TIDEGATE_WORKERS_2, nodes=1, redis=False, workers=2, is_pinned=False),
        System(TIDEGATE_FORWARDS, forwards=True),
    )
}


@dataclass(frozen=True)
class Cluster:
    """Running nodes. The publisher connects to the first of ``ports``."""

    ports: list[int]
    pids: list[int]
    redis_pid: int | None
    peers: list[RunningPeer]

    def check_alive(self) -> None:
        for peer in self.peers:
            peer.check_alive()


@contextmanager
def running(system: System, cores: Cores) -> Iterator[Cluster]:
    """New nodes on ``cores.server`` and a new Redis on ``cores.load``; they have ended when the block is left.

    Raises: PeerError.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-scaling-")))
        redis_url, redis_pid = "", None
        if system.redis:
            own = OwnRedis()
            url = stack.enter_context(own)
            if url is None:
                raise PeerError("redis-server is not installed")
            redis_url, redis_pid = url, own.process.pid
            os.sched_setaffinity(redis_pid, {cores.load})
        environment = {**os.environ, "TIDEGATE_CLUSTER_SECRET": _SECRET, **dict.fromkeys(system.environment, "1")}
        if redis_url:
            environment["BENCHMARK_BROKER"] = redis_url
        peers = []
        for number in range(system.nodes):
            port = free_port()
            command = system.command(port, free_port(), redis_url, folder)
            if system.is_pinned:
                command = ["taskset", "-c", str(cores.server), *command]
            log = folder / f"log-{number}"
            with log.open("wb") as output:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
                )
            stack.callback(end, process)
            peers.append(RunningPeer(port, process, log))
        for peer in peers:
            wait_until_listening(peer)
        if system.forwards:
            _wait_until_joined(redis_url, system.nodes)
        yield Cluster([peer.port for peer in peers], [peer.process.pid for peer in peers], redis_pid, peers)


def _wait_until_joined(redis_url: str, nodes: int) -> None:
    """Until all nodes have their lease, so that each can locate the sessions of the others."""
    command = [str(Path(sys.executable).with_name("tidegate")), "nodes", "--broker", redis_url, "--json"]
    ends = time.monotonic() + _NODES_MEET_TIMEOUT_S
    while True:
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        if told.returncode == 0 and len(json.loads(told.stdout)) >= nodes:
            return
        if time.monotonic() > ends:
            raise PeerError(f"{nodes} nodes do not find each other: {told.stdout}{told.stderr}")


def parents() -> dict[int, int]:
    """The parent of each process of the machine."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended since
            found[int(folder.name)] = int(stat.rpartition(")")[2].split()[1])
    return found


def family(pid: int, parent_of: dict[int, int]) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for each in found:
        found += [child for child, parent in parent_of.items() if parent == each]
    return found


def workers(cluster: Cluster) -> list[int]:
    """The processes that serve: those below a supervisor, or a node itself."""
    parent_of = parents()
    return [each for pid in cluster.pids for each in family(pid, parent_of)[1:] or [pid]]


def cpu_s(pids: list[int]) -> float:
    """Of these processes since their start, all threads that still run."""
    total_ns = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            try:
                total_ns += int((task / "schedstat").read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue  # a thread that has ended since
    return total_ns / 1e9


def machine_cpu_s() -> float:
    """Of everything on the machine since its start, as sioload counts it: not idle, not waiting."""
    line = Path("/proc/stat").read_text().partition("\n")[0]
    return busy_ticks(line) / os.sysconf("SC_CLK_TCK")


def busy_ticks(line: str) -> int:
    """Of a line of ``/proc/stat``: user, nice, system, irq, softirq."""
    user, nice, system, _idle, _iowait, irq, softirq = (int(text) for text in line.split()[1:8])
    return user + nice + system + irq + softirq
