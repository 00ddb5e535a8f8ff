"""What it costs when a request reaches a worker that does not own its session.

    python -m benchmarks.forwarding [--requests 2000]

Starts gateways with two workers and prints, for each kind of request, the CPU microseconds of both workers together:
where it comes to the owner at once, and where it has to be passed on. The kernel chooses the worker by the client's
port, so the same ports are used for all requests of a kind.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from gateway.workers import control, runtime_dir

_RUNNING: Final = re.compile(r"Running on https?://127\.0\.0\.1:(\d+)")
_APPLICATION: Final = "import gateway\nserver = gateway.Server(handshakes_per_second=0)\n"
_START_TIMEOUT_S: Final = 30.0
_CLIENT_PORTS: Final = 60
_SECRET: Final = "a secret for measuring"


class Measured:
    """A gateway, and the connections that measure it."""

    def __init__(self, folder: Path, *arguments: str, tls: ssl.SSLContext | None = None) -> None:
        folder.mkdir()
        (folder / "measured.py").write_text(_APPLICATION)
        self._log = folder / "log"
        self._tls = tls
        command = [str(Path(sys.executable).with_name("tidegate")), "serve", "measured:server", "--workers", "2"]
        command += ["--port", "0", "--runtime-dir", str(folder / "run"), *arguments]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=folder, stderr=log, stdin=subprocess.DEVNULL)
        found = self._await(lambda: _RUNNING.search(self._log.read_text()))
        self.port = int(found[1])
        (path,) = runtime_dir.controls(folder / "run")
        self.status: dict[str, Any] = self._await(lambda: control.ask(path))
        self.pids = {each["id"]: each["pid"] for each in self.status["workers"]}

    def _await(self, condition: Callable[[], Any]) -> Any:
        ends = time.monotonic() + _START_TIMEOUT_S
        while not (value := condition()):
            if self.process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"the gateway does not run:\n{self._log.read_text()}")
            time.sleep(0.05)
        return value

    def connect(self, from_port: int = 0) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # so that the port is free again
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(("127.0.0.1", from_port))
        sock.connect(("127.0.0.1", self.port))
        return sock if self._tls is None else self._tls.wrap_socket(sock, server_hostname="127.0.0.1")

    def cpu_us(self) -> float:
        """Of all workers since start."""
        return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in self.pids.values()) / 1000

    def ports_by_worker(self) -> dict[str, list[int]]:
        """Client ports by the worker whose connections they become."""
        found: dict[str, list[int]] = {worker_id: [] for worker_id in self.pids}
        for _ in range(_CLIENT_PORTS):
            with self.connect() as sock:
                found[open_session(sock)[:7]].append(sock.getsockname()[1])
        return found

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def ask(sock: socket.socket, request: bytes) -> bytes:
    """The answer to a request, which has a Content-Length or is an upgrade."""
    sock.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    while length is not None and len(body) < int(length[1]):
        body += sock.recv(65536)
    if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 101")):
        raise RuntimeError(head.decode() + body.decode())
    return body


def get(sid: str = "", transport: str = "polling", headers: str = "") -> bytes:
    target = f"/socket.io/?EIO=4&transport={transport}" + (f"&sid={sid}" if sid else "")
    return f"GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n".encode()


def post(sid: str) -> bytes:
    target = f"/socket.io/?EIO=4&transport=polling&sid={sid}"
    return f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n3".encode()


def open_session(sock: socket.socket) -> str:
    sid: str = json.loads(ask(sock, get())[1:])["sid"]
    return sid


def upgrade(sid: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    lines = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    return get(sid, "websocket", f"{lines}Sec-WebSocket-Key: {key}\r\n")


def measure(gateways: list[Measured], count: int, once: Callable[[int], None]) -> float:
    """CPU microseconds of all workers for one of ``count`` calls."""
    for n in range(count // 10):
        once(n)
    before = sum(each.cpu_us() for each in gateways)
    for n in range(count):
        once(n)
    return (sum(each.cpu_us() for each in gateways) - before) / count


@contextmanager
def running(folder: Path, *arguments: str, tls: ssl.SSLContext | None = None) -> Iterator[Measured]:
    measured = Measured(folder, *arguments, tls=tls)
    try:
        yield measured
    finally:
        measured.stop()


def on_fresh_connections(gateway: Measured, ports: list[int], count: int, request: Callable[[], bytes]) -> float:
    def once(n: int) -> None:
        with gateway.connect(ports[n % len(ports)]) as sock:
            ask(sock, request())

    return measure([gateway], count, once)


def measure_host(gateway: Measured, count: int) -> Iterator[tuple[str, float, float]]:
    """Name, direct and passed on, for requests within one host."""
    ports = gateway.ports_by_worker()
    (first, at_first), (second, at_second) = ports.items()
    with gateway.connect(at_first[0]) as sock:
        sid = open_session(sock)
    with gateway.connect(at_second[0]) as sock:
        other = open_session(sock)
    assert (sid[:7], other[:7]) == (first, second)
    yield (
        "POST, a connection for each",
        on_fresh_connections(gateway, at_first[1:], count, lambda: post(sid)),
        on_fresh_connections(gateway, at_second[1:], count, lambda: post(sid)),
    )

    def poll(n: int, places: list[int]) -> None:
        with gateway.connect(places[n % len(places)]) as sock, gateway.connect(at_first[-1]) as own:
            ask(own, post_nothing(sid))
            ask(sock, get(sid))

    yield (
        "poll that is answered at once, and the POST that causes it",
        measure([gateway], count, lambda n: poll(n, at_first[1:-1])),
        measure([gateway], count, lambda n: poll(n, at_second[1:])),
    )

    def websocket(n: int, places: list[int]) -> None:
        with gateway.connect(at_first[-1]) as own:
            fresh = open_session(own)
        with gateway.connect(places[n % len(places)]) as sock:
            ask(sock, upgrade(fresh))

    yield (
        "WebSocket upgrade, and its session",
        measure([gateway], count // 2, lambda n: websocket(n, at_first[1:-1])),
        measure([gateway], count // 2, lambda n: websocket(n, at_second[1:])),
    )
    with gateway.connect(at_first[1]) as sock:
        direct = measure([gateway], count, lambda _: ask(sock, post(sid)) and None)
        passed_on = measure([gateway], count, lambda n: ask(sock, post(other if n % 2 else sid)) and None)
    yield "POST on one connection, for sessions of both by turns", direct, passed_on


def post_nothing(sid: str) -> bytes:
    """Joins a namespace once more, which is answered at once."""
    return post(sid).replace(b"Content-Length: 1\r\n\r\n3", b"Content-Length: 2\r\n\r\n40")


def measure_relayed(gateways: list[Measured], count: int, ports: tuple[int, int]) -> tuple[float, float]:
    """POSTs on one connection each: to the owner, and to who relays. ``ports``: of clients, of the last gateway."""
    gateway = gateways[-1]
    with gateways[0].connect(ports[0] if len(gateways) == 1 else 0) as own:
        sid = open_session(own)
        direct = measure(gateways, count, lambda _: ask(own, post(sid)) and None)
    with gateway.connect(ports[1]) as away:
        return direct, measure(gateways, count, lambda _: ask(away, post(sid)) and None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    count = parser.parse_args().requests
    rows: list[tuple[str, float, float]] = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        plain = stack.enter_context(running(folder / "plain"))
        rows += [(f"handed over: {what}", *figures) for what, *figures in measure_host(plain, count)]
        certfile, keyfile = folder / "cert.pem", folder / "key.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(keyfile), "-out", str(certfile)]
        subprocess.run(command, check=True, capture_output=True)
        tls = ssl.create_default_context(cafile=str(certfile))
        options = ["--certfile", str(certfile), "--keyfile", str(keyfile)]
        secure = stack.enter_context(running(folder / "tls", *options, tls=tls))
        first, second = [places[0] for places in secure.ports_by_worker().values()]
        rows.append(("relayed, TLS: POST on one connection", *measure_relayed([secure], count, (first, second))))
        registry = folder / "registry.json"
        registry.write_text("{}")
        os.environ["TIDEGATE_CLUSTER_SECRET"] = _SECRET
        options = ["--cluster-listen", "127.0.0.1:0", "--cluster-registry", str(registry)]
        hosts = [stack.enter_context(running(folder / each, *options)) for each in ("here", "there")]
        registry.write_text(json.dumps({id_: host.status["cluster"][0] for host in hosts for id_ in host.pids}))
        rows.append(("relayed, between hosts: POST on one connection", *measure_relayed(hosts, count, (0, 0))))
    width = max(len(what) for what, _, _ in rows)
    print(f"{'CPU µs of all workers for one':<{width}}  direct  passed on  more")
    for what, direct, passed_on in rows:
        print(f"{what:<{width}}  {direct:6.0f}  {passed_on:9.0f}  {passed_on - direct:+4.0f}")


if __name__ == "__main__":
    main()
