"""Ways to a Redis server: TLS, a Unix-domain socket."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from gateway.brokers.redis import RedisBroker
from gateway.brokers.redis_options import parse_url
from tests.support.redis_server import RedisServer, free_ports, running
from tests.support.waiting import eventually

from .test_redis_failures import QUICK, nodes_at

pytestmark = pytest.mark.usefixtures("no_logged_errors")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=60)
    return certificate, key


async def test_tls_is_spoken_and_the_certificate_checked(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    port = free_ports(1)[0]
    server = RedisServer(
        tmp_path, tls_port=port, tls_cert_file=certificate[0], tls_key_file=certificate[1], tls_auth_clients="no"
    )
    with running(server):
        async with nodes_at(f"rediss://127.0.0.1:{port}?ca_file={certificate[0]}") as spawn:
            one, two = await spawn(2)
            await two.subscribe("room")
            await one.broker.publish("room", bytes(300_000))
            await one.broker.publish("room", b"durable", durable=True)
            await two.got([bytes(300_000), b"durable"])
        broker = RedisBroker(parse_url(f"rediss://127.0.0.1:{port}", **QUICK))
        try:
            await broker.start()
            await eventually(lambda: "certificate" in broker.health.reason.lower(), "the reason")
        finally:
            await broker.close()


async def test_unix_socket_of_redis(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with running(RedisServer(tmp_path, unixsocket=path)):
        async with nodes_at(f"redis+unix://{path}?database=3") as spawn:
            one, two = await spawn(2)
            await two.subscribe("room")
            await one.broker.publish("room", b"1", durable=True)
            await two.got([b"1"])
