"""Redis servers of the tests' own: on free loopback ports, in temporary directories, ended by their process."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
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

    #: Where it listens, and is told to find others.
    host = "127.0.0.1"

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
        options = {"port": self.port, "bind": self.host, "dir": self.directory, "logfile": "log"} | self.options
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
    def public_port(self) -> int:
        """Where gateways, replicas and Sentinels find it: over TLS, where it has that."""
        return int(self.options.get("tls_port", self.port))

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}"


class SentinelServer(RedisServer):
    """A Sentinel that watches one master, ``main``. ``quorum``: how many have to agree that it is down."""

    def __init__(
        self,
        directory: Path,
        master: RedisServer,
        port: int | None = None,
        *,
        quorum: int = 1,
        down_after_ms: int = 500,
        **options: Any,
    ) -> None:
        super().__init__(directory, port, program="redis-sentinel", **options)
        self._monitor = [
            f"sentinel monitor main {master.host} {master.public_port} {quorum}",
            f"sentinel down-after-milliseconds main {down_after_ms}",
            "sentinel failover-timeout main 3000",
        ]

    def _arguments(self) -> list[str]:
        configuration = self.directory / "sentinel.conf"
        if not configuration.exists():  # it writes into it what it has learned
            options = {"port": self.port, "bind": self.host, "dir": self.directory, "logfile": "log"} | self.options
            for name in ("save", "appendonly"):
                options.pop(name, None)
            lines = [f"{name.replace('_', '-')} {value}" for name, value in options.items()]
            configuration.write_text("\n".join([*lines, *self._monitor, ""]))
        return [str(configuration)]

    def master_port(self) -> int:
        return int(self.client().execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")[1])

    def is_calm(self, replicas: int, sentinels: int) -> bool:
        """Whether it knows of so many of each, all as they should be, and nothing is being done about anything."""
        client = self.client()
        master = client.sentinel_master("main")
        good = [
            found
            for found in client.sentinel_slaves("main")
            if found["flags"] == "slave" and found.get("master-link-status") == "ok"
        ]
        return master["flags"] == "master" and len(good) == replicas and master["num-other-sentinels"] == sentinels - 1


@contextmanager
def running(*servers: RedisServer) -> Iterator[None]:
    try:
        for server in servers:
            server.start()
        yield
    finally:
        for server in servers:
            server.kill()


class Watched:
    """A master, a replica of it, and Sentinels that watch them. Which of the two servers is the master, they decide."""

    def __init__(self, servers: tuple[RedisServer, RedisServer], sentinels: Sequence[SentinelServer]) -> None:
        self.servers = servers
        self.sentinels = sentinels

    @property
    def url(self) -> str:
        scheme = "rediss" if "tls_port" in self.servers[0].options else "redis"
        hosts = ",".join(f"{sentinel.host}:{sentinel.public_port}" for sentinel in self.sentinels)
        return f"{scheme}+sentinel://{hosts}/main"

    def start(self) -> None:
        for server in (*self.servers, *self.sentinels):
            server.start()
        for sentinel in self.sentinels:
            # By default a master that was failed over takes what is written for ten seconds more.
            sentinel.client().execute_command("SENTINEL", "DEBUG", "INFO-PERIOD", 1000, "PUBLISH-PERIOD", 500)
        self.await_calm()

    def kill(self) -> None:
        for server in (*self.servers, *self.sentinels):
            server.kill()

    @property
    def master(self) -> RedisServer:
        """As the first Sentinel says."""
        port = self.sentinels[0].master_port()
        return next(server for server in self.servers if server.public_port == port)

    def other(self, server: RedisServer) -> RedisServer:
        return self.servers[self.servers[0] is server]

    def fail_over(self) -> None:
        """Ask for it, while both servers live; return once it is under way."""
        self.sentinels[0].client().execute_command("SENTINEL", "FAILOVER", "main")

    def await_master(self, server: RedisServer) -> None:
        """Until all Sentinels say that it is."""
        eventually_sync(
            lambda: all(sentinel.master_port() == server.public_port for sentinel in self.sentinels),
            "another master",
            30,
        )

    def await_calm(self) -> None:
        """Until all servers run, agree on who is the master, and the replica is in step with it."""
        eventually_sync(self._is_calm, "Sentinels that agree, and a replica in step", 60)

    def _is_calm(self) -> bool:
        try:
            masters = {sentinel.master_port() for sentinel in self.sentinels}
            master = self.master
            link = self.other(master).client().info("replication")
            return (
                len(masters) == 1
                and master.client().info("replication")["role"] == "master"
                and link["role"] == "slave"
                and link["master_port"] == master.public_port
                and link["master_link_status"] == "up"
                and all(sentinel.is_calm(1, len(self.sentinels)) for sentinel in self.sentinels)
            )
        except redis.RedisError:
            return False


def _tls_port(options: Mapping[str, Any]) -> dict[str, int]:
    """A second port for those that have a certificate; the tests themselves go on asking at the other."""
    return {"tls_port": free_ports(1)[0]} if "tls_cert_file" in options else {}


@contextmanager
def sentinel_setup(directory: Path, sentinels: int = 1, **options: Any) -> Iterator[Watched]:
    """``options``: of all of them."""
    settings = {"repl_diskless_sync_delay": 0} | options
    master = RedisServer(directory, **settings, **_tls_port(options))
    replica = RedisServer(directory, replicaof=f"{master.host} {master.public_port}", **settings, **_tls_port(options))
    quorum = sentinels // 2 + 1
    watched = Watched(
        (master, replica),
        [SentinelServer(directory, master, quorum=quorum, **options, **_tls_port(options)) for _ in range(sentinels)],
    )
    try:
        watched.start()
        yield watched
    finally:
        watched.kill()


@contextmanager
def cluster_setup(directory: Path, count: int = 3, replicas: int = 0, **options: Any) -> Iterator[list[RedisServer]]:
    """A Redis Cluster with all slots served: its masters, then replicas that are in step, the first one's first."""
    total = count + replicas
    ports = free_ports(total * 2)
    settings = {
        "cluster_enabled": "yes",
        "cluster_node_timeout": 1000,
        "cluster_config_file": "nodes",
        "repl_diskless_sync_delay": 0,
    } | options
    servers = [
        RedisServer(directory, port, cluster_port=bus, **settings, **_tls_port(options))
        for port, bus in zip(ports[:total], ports[total:], strict=True)
    ]
    masters = servers[:count]
    with running(*servers):
        per_node = 16384 // count + 1
        first = servers[0]
        for number, server in enumerate(servers):
            if server in masters:
                last = min(16383, (number + 1) * per_node - 1)
                server.client().execute_command("CLUSTER", "ADDSLOTSRANGE", number * per_node, last)
            server.client().execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if server is not first:
                bus = first.options["cluster_port"]
                server.client().execute_command("CLUSTER", "MEET", "127.0.0.1", first.public_port, bus)
        for server in servers:
            eventually_sync(lambda server=server: _sees_all(server, total, count), "the whole cluster", 30)
        for master, replica in zip(masters, servers[count:], strict=False):
            replica.client().execute_command("CLUSTER", "REPLICATE", cluster_id(master))
            await_cluster_replica(replica, master, servers)
        yield servers


def cluster_id(server: RedisServer) -> str:
    return _cluster_says(server, "MYID")


def await_cluster_replica(replica: RedisServer, master: RedisServer, servers: Sequence[RedisServer]) -> None:
    """Until it is in step with the master, and all servers know."""

    def is_known() -> bool:
        link = replica.client().info("replication")
        return (
            link["role"] == "slave"
            and link["master_port"] == master.public_port
            and link["master_link_status"] == "up"
            and all(_knows_replica(server, replica, master) for server in servers)
        )

    eventually_sync(is_known, "a replica in step", 30)


def _cluster_says(server: RedisServer, what: str) -> str:
    return str(server.client().execute_command("CLUSTER", what).decode())


def _knows_replica(server: RedisServer, replica: RedisServer, master: RedisServer) -> bool:
    """By lines of id, address, flags, id of the master, …"""
    rows = [line.split() for line in _cluster_says(server, "NODES").splitlines()]
    ours, its_master = cluster_id(replica), cluster_id(master)
    return any(row[0] == ours and row[3] == its_master and "fail" not in row[2] for row in rows)


def _sees_all(server: RedisServer, nodes: int, masters: int) -> bool:
    info = _cluster_says(server, "INFO").split()
    return (
        "cluster_state:ok" in info
        and f"cluster_known_nodes:{nodes}" in info
        and len(server.client().execute_command("CLUSTER", "SLOTS")) == masters
    )
