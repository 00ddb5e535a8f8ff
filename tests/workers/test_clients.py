"""Real clients of every transport and every upgrade, whose requests reach any worker."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.node_scripts import CLIENTS
from tests.support.waiting import eventually_sync
from tests.workers.conftest import Gateway, NodeClients

pytestmark = pytest.mark.node

COUNT = 50
MESSAGES = 200

NGINX_CONFIGURATION = """
daemon off; worker_processes 1; pid nginx.pid; error_log error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
    upstream gateway {{ server 127.0.0.1:{gateway}; {keepalive} }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://gateway;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_buffering off;
            proxy_request_buffering off;
        }}
    }}
}}
"""


def check_all_answered(results: list[dict[str, Any]], messages: int | None = None) -> None:
    """Each message was answered once and in order, and nobody noticed anything."""
    for one in results:
        assert one["problems"] == [], one
        assert one["isInOrder"], one
        assert one["sent"] == one["acked"], one
        assert messages in (None, one["sent"])
        assert len(one["owners"]) == 1


def test_every_transport_and_upgrade_on_four_workers(
    gateway: Callable[..., Gateway], node_clients: Callable[..., NodeClients]
) -> None:
    server = gateway("--workers", "4")
    results = node_clients(url=server.url, clients=CLIENTS, count=COUNT, messages=MESSAGES).results()
    check_all_answered(results, MESSAGES)
    assert len({one["owners"][0] for one in results}) == 4, "the kernel spreads connections"
    server.eventually(
        lambda status: status["total"]["forwarded"].get("handed_over", 0) > COUNT, "connections handed over"
    )
    assert server.status()["total"]["forwarded"]["relayed"] == 0
    assert server.end() == 0


@pytest.fixture
def nginx(tmp_path: Path, unused_tcp_port: int) -> Iterator[Callable[..., int]]:
    """Starts nginx before a gateway; its port."""
    started: list[subprocess.Popen[bytes]] = []

    def start(gateway: Gateway, *, keepalive: bool) -> int:
        folder = tmp_path / "nginx"
        folder.mkdir()
        text = NGINX_CONFIGURATION.format(
            gateway=gateway.port, port=unused_tcp_port, keepalive="keepalive 8;" if keepalive else ""
        )
        (folder / "nginx.conf").write_text(text)
        command = ["nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"]
        started.append(subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL))

        def listens() -> bool:
            assert started[-1].poll() is None, (folder / "error.log").read_text()
            with socket.socket() as sock:
                return sock.connect_ex(("127.0.0.1", unused_tcp_port)) == 0

        eventually_sync(listens, "nginx listens")
        return unused_tcp_port

    yield start
    for process in started:
        process.send_signal(signal.SIGTERM)
        process.wait()


@pytest.mark.skipif(shutil.which("nginx") is None, reason="Debian's nginx is not installed")
@pytest.mark.parametrize("keepalive", [True, False])
def test_behind_nginx_without_stickiness(
    gateway: Callable[..., Gateway],
    node_clients: Callable[..., NodeClients],
    nginx: Callable[..., int],
    keepalive: bool,
) -> None:
    """With ``keepalive`` requests of many clients share connections, which go from owner to owner."""
    server = gateway("--workers", "4")
    url = f"http://127.0.0.1:{nginx(server, keepalive=keepalive)}"
    check_all_answered(node_clients(url=url, clients=CLIENTS, count=9, messages=60).results(), 60)
    # Reports come once in a while, so at first there may be none.
    server.eventually(lambda status: status["total"]["forwarded"].get("handed_over", 0) > 9, "connections handed over")


@pytest.mark.parametrize("what", ["tls", "middleware"])
def test_what_cannot_be_handed_over_is_relayed(
    gateway: Callable[..., Gateway],
    node_clients: Callable[..., NodeClients],
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    source = (
        "from aiohttp import web\nfrom tests.support.apps import create_app\n"
        "app = create_app({'handshakes_per_second': 0})\n"
    )
    arguments = ["--workers", "4"]
    if what == "tls":
        arguments += ["--certfile", str(certificate[0]), "--keyfile", str(certificate[1])]
        monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(certificate[0]))
    else:
        source += "@web.middleware\nasync def see(request, handler):\n    return await handler(request)\n"
        source += "app.middlewares.append(see)\n"
    server = gateway(*arguments, source=source)
    url = f"{'https' if what == 'tls' else 'http'}://127.0.0.1:{server.port}"
    check_all_answered(node_clients(url=url, clients=CLIENTS, count=9, messages=60).results(), 60)
    server.eventually(lambda status: status["total"]["forwarded"].get("relayed", 0) > 9, "requests relayed")
    assert server.end() == 0


def test_killed_worker_takes_its_own_clients_only(
    gateway: Callable[..., Gateway], node_clients: Callable[..., NodeClients]
) -> None:
    server = gateway("--workers", "4")
    clients = node_clients(url=server.url, clients=CLIENTS, count=27, reconnects=True)
    clients.await_running()
    workers = server.workers()
    victim = max(server.status()["workers"], key=lambda each: each["sessions"])["id"]
    os.kill(workers[victim], signal.SIGKILL)
    server.eventually(
        lambda status: (
            sum(each["state"] == "ready" for each in status["workers"]) == 4
            and victim not in [each["id"] for each in status["workers"]]
        ),
        "another worker in its place",
    )
    assert sum(each["restarts"] for each in server.status()["workers"]) == 1
    results = clients.stop()
    affected = [one for one in results if one["owners"][0] == victim]
    assert affected
    for one in affected:
        assert one["problems"], one
        assert one["owners"][-1] != victim
        assert one["isInOrder"], one
    others = [one for one in results if one not in affected]
    assert others
    check_all_answered([one for one in others if one["name"].endswith("websocket")])
    for one in others:
        # The stock clients use a connection for each request in Node, one of which the victim may have read and not
        # passed on yet (docs/design/workers.md).
        assert one["isInOrder"], one
        assert len(one["problems"]) <= 1, one
    assert "ended with SIGKILL" in server.log


def test_rolling_restart_refuses_no_connection_and_loses_nothing_of_others(
    gateway: Callable[..., Gateway], node_clients: Callable[..., NodeClients]
) -> None:
    server = gateway("--workers", "3")
    clients = node_clients(url=server.url, clients=CLIENTS, count=27, reconnects=True)
    clients.await_running()
    before = set(server.workers())
    server.signal(signal.SIGHUP)
    server.eventually(
        lambda status: status["state"] == "running" and not before & {each["id"] for each in status["workers"]},
        "three new workers",
    )
    results = clients.stop()
    for one in results:
        assert one["isInOrder"], one
        assert one["acked"] + one["lost"] == one["sent"]
        assert not [problem for problem in one["problems"] if problem.startswith("connect:")], one
        assert len(one["owners"]) > 1
        # Each client is told once for each worker of its own that leaves, and never for another's.
        assert len(one["problems"]) == len(one["owners"]) - 1, one
    assert len(server.workers()) == 3
    assert server.end() == 0
