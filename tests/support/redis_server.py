"""Redis servers of the tests' own: on free loopback ports, in temporary directories, ended by their process."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from .waiting import eventually_sync, timeout_s

HAS_VALKEY = shutil.which("valkey-server") is not None


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, each another."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class RedisServer:
    """One ``redis-server`` that can be stopped, killed, paused and started again on the same port."""

    def __init__(
        self, directory: Path, port: int | None = None, *, program: str = "redis-server", **options: Any
    ) -> None:
        self.program = program
        self.port = port or free_ports(1)[0]
        self.directory = directory / str(self.port)
        self.directory.mkdir(parents=True)
        self.options: dict[str, Any] = {"save": "", "appendonly": "no"} | options
        self._process: subprocess.Popen[bytes] | None = None
        self._is_paused = False

    def _arguments(self) -> list[str]:
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self.directory, "logfile": "log"} | self.options
        arguments = []
        for name, value in options.items():
            arguments += [f"--{name.replace('_', '-')}", *(str(value).split(" ") if value != "" else [""])]
        return arguments

    def _command(self) -> list[str]:
        return [self.program, *self._arguments()]

    def start(self) -> RedisServer:
        output = (self.directory / "output").open("ab")
        with output:
            self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        eventually_sync(self._answers, f"an answer of {self.program}: {self.log()}", 20)
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.program} ended: {self.log()}"
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False

    def client(self, **options: Any) -> redis.Redis:
        """An independent client of the server."""
        options = {"password": self.options.get("requirepass")} | options
        return redis.Redis("127.0.0.1", self.port, socket_timeout=timeout_s(10), protocol=2, **options)

    def log(self) -> str:
        paths = [self.directory / "output", self.directory / "log"]
        return "".join(path.read_text(errors="replace")[-2000:] for path in paths if path.exists())

    def stop(self) -> None:
        """Let it write what it keeps, and end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._resume(process)
        process.send_signal(number)
        try:
            process.wait(timeout_s(10))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """It stands still, and its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._is_paused = True

    def resume(self) -> None:
        assert self._process is not None
        self._resume(self._process)

    def _resume(self, process: subprocess.Popen[bytes]) -> None:
        if self._is_paused:
            process.send_signal(signal.SIGCONT)
            self._is_paused = False

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"


class SentinelServer(RedisServer):
    """A Sentinel that watches one master, ``main``, and needs nobody's vote."""

    def __init__(self, directory: Path, master: RedisServer) -> None:
        super().__init__(directory, program="redis-sentinel")
        self.configuration = self.directory / "sentinel.conf"
        self.configuration.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.directory}\nlogfile log\n"
            f"sentinel monitor main 127.0.0.1 {master.port} 1\n"
            "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
        )

    def _arguments(self) -> list[str]:
        return [str(self.configuration)]

    def master_port(self) -> int:
        return int(self.client().execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")[1])


@contextmanager
def running(*servers: RedisServer) -> Iterator[None]:
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.kill()


@contextmanager
def sentinel_setup(directory: Path) -> Iterator[tuple[SentinelServer, RedisServer, RedisServer]]:
    """A Sentinel, the master, and a replica that is in step with it and known."""
    master = RedisServer(directory, repl_diskless_sync_delay=0)
    replica = RedisServer(directory, replicaof=f"127.0.0.1 {master.port}", repl_diskless_sync_delay=0)
    sentinel = SentinelServer(directory, master)
    with running(master, replica, sentinel):
        eventually_sync(lambda: replica.client().info("replication")["master_link_status"] == "up", "a replica", 20)
        eventually_sync(lambda: _known_replicas(sentinel), "the Sentinel to know it", 30)
        yield sentinel, master, replica


def _known_replicas(sentinel: SentinelServer) -> bool:
    return any(
        found.get("is_slave") and not found.get("is_disconnected") and found.get("master-link-status", "ok") == "ok"
        for found in sentinel.client().sentinel_slaves("main")
    )


@contextmanager
def cluster_setup(directory: Path, count: int = 3) -> Iterator[list[RedisServer]]:
    """A Redis Cluster of masters alone, with all slots served."""
    ports = free_ports(count * 2)
    servers = [
        RedisServer(
            directory,
            port,
            cluster_enabled="yes",
            cluster_port=bus,
            cluster_node_timeout=1000,
            cluster_config_file="nodes",
        )
        for port, bus in zip(ports[:count], ports[count:], strict=True)
    ]
    with running(*servers):
        per_node = 16384 // count + 1
        first = servers[0]
        for number, server in enumerate(servers):
            last = min(16383, (number + 1) * per_node - 1)
            server.client().execute_command("CLUSTER", "ADDSLOTSRANGE", number * per_node, last)
            server.client().execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if server is not first:
                bus = first.options["cluster_port"]
                server.client().execute_command("CLUSTER", "MEET", "127.0.0.1", first.port, bus)
        for server in servers:
            eventually_sync(lambda server=server: _sees_all(server, count), "the whole cluster", 30)
        yield servers


def _sees_all(server: RedisServer, count: int) -> bool:
    info = server.client().execute_command("CLUSTER", "INFO")
    text = info.decode() if isinstance(info, bytes) else str(info)
    return (
        "cluster_state:ok" in text.replace("'", "").replace(" ", "")
        and len(server.client().execute_command("CLUSTER", "SLOTS")) == count
    )
