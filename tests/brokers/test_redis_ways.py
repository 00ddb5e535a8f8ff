"""Ways to Redis servers: TLS, also to Sentinels and to a Cluster, and a Unix-domain socket."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from gateway.brokers.redis import RedisBroker
from gateway.brokers.redis_options import parse_url
from tests.support.redis_server import RedisServer, cluster_setup, free_ports, running, sentinel_setup
from tests.support.waiting import eventually

from .test_redis_failures import QUICK, all_ready, nodes_at, port_of

pytestmark = pytest.mark.usefixtures("no_logged_errors")


@dataclass(frozen=True)
class Authority:
    """A CA of the test's own, and what it has signed: certificates of servers at 127.0.0.1, and of clients."""

    directory: Path

    def make(self) -> None:
        subject = ["-subj", "/CN=authority", "-addext", "keyUsage=critical,keyCertSign"]
        _openssl("req", "-x509", *_NEW_KEY, "-days", "2", *subject, "-keyout", self.of("ca", "key"), "-out", self.ca)
        (self.directory / "extensions").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
        for name in ("server", "client"):
            request = self.of(name, "request")
            _openssl("req", *_NEW_KEY, "-subj", f"/CN={name}", "-keyout", self.of(name, "key"), "-out", request)
            signed_by = ["-CA", self.ca, "-CAkey", self.of("ca", "key"), "-CAcreateserial", "-days", "2"]
            extensions = ["-extfile", self.directory / "extensions"]
            _openssl("x509", "-req", "-in", request, *signed_by, *extensions, "-out", self.of(name, "pem"))

    def of(self, name: str, what: str) -> Path:
        return self.directory / f"{name}.{what}"

    @property
    def ca(self) -> Path:
        return self.of("ca", "pem")

    def server_options(self) -> dict[str, Any]:
        """Of servers and Sentinels that speak TLS to each other too, and ask clients for certificates."""
        return {
            "tls_cert_file": self.of("server", "pem"),
            "tls_key_file": self.of("server", "key"),
            "tls_ca_cert_file": self.ca,
            "tls_auth_clients": "yes",
            "tls_replication": "yes",
        }

    @property
    def query(self) -> str:
        """Of a client's URL."""
        return f"ca_file={self.ca}&cert_file={self.of('client', 'pem')}&key_file={self.of('client', 'key')}"


_NEW_KEY: Final = ["-newkey", "rsa:2048", "-nodes"]


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.make()
    return made


async def is_refused(url: str, *words: str) -> None:
    """Wait until the reason has one of the words."""
    broker = RedisBroker(parse_url(url, **QUICK))
    try:
        await broker.start()
        await eventually(lambda: any(word in broker.health.reason.lower() for word in words), "the reason")
    finally:
        await broker.close()


async def test_tls_is_spoken_and_the_certificate_checked(tmp_path: Path, authority: Authority) -> None:
    options = authority.server_options() | {"tls_port": free_ports(1)[0], "tls_auth_clients": "no"}
    with running(RedisServer(tmp_path, **options)):
        address = f"rediss://127.0.0.1:{options['tls_port']}"
        async with nodes_at(f"{address}?ca_file={authority.ca}") as spawn:
            one, two = await spawn(2)
            await two.subscribe("room")
            await one.broker.publish("room", bytes(300_000))
            await one.broker.publish("room", b"durable", durable=True)
            await two.got([bytes(300_000), b"durable"])
        await is_refused(address, "certificate")


async def test_tls_to_sentinels_and_to_the_masters_they_name(tmp_path: Path, authority: Authority) -> None:
    with sentinel_setup(tmp_path, **authority.server_options()) as watched:
        master, replica = watched.servers
        assert watched.url.startswith("rediss+sentinel://")
        async with nodes_at(f"{watched.url}?{authority.query}") as spawn:
            one, two = await spawn(2)
            await two.subscribe("room")
            assert port_of(one) == master.public_port
            await one.broker.publish("room", b"1", durable=True)
            await two.got([b"1"])
            await asyncio.to_thread(watched.fail_over)
            await eventually(lambda: port_of(one) == port_of(two) == replica.public_port, "the new master", 30)
            await all_ready(one, two)
            await one.broker.publish("room", b"2", durable=True)
            await two.got([b"1", b"2"])
        await is_refused(watched.url, "certificate verify failed")
        # Without a certificate of one's own; how the refusal shows depends on when it comes.
        await is_refused(f"{watched.url}?ca_file={authority.ca}", "certificate required", "closed", "reset")


async def test_tls_to_a_cluster(tmp_path: Path, authority: Authority) -> None:
    with cluster_setup(tmp_path, tls_cluster="yes", **authority.server_options()) as servers:
        url = f"rediss+cluster://127.0.0.1:{servers[0].public_port}"
        async with nodes_at(f"{url}?{authority.query}") as spawn:
            one, two = await spawn(2)
            topics = [f"room {number}" for number in range(20)]
            await two.subscribe(*topics)
            for topic in topics:
                await one.broker.publish(topic, topic.encode(), durable=True)
            for topic in topics:
                await two.got([topic.encode()], topic)
        assert all(server.client().dbsize() for server in servers), "topics lie on every master"
        await is_refused(url, "certificate verify failed")


async def test_unix_socket_of_redis(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with running(RedisServer(tmp_path, unixsocket=path)):
        async with nodes_at(f"redis+unix://{path}?database=3") as spawn:
            one, two = await spawn(2)
            await two.subscribe("room")
            await one.broker.publish("room", b"1", durable=True)
            await two.got([b"1"])
