"""A real nginx in front of a server, set up as people set it up."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import pytest

from .waiting import eventually_sync, timeout_s

_WORKER = "nginx: worker process"


@dataclass(frozen=True)
class Setup:
    """What tells the configurations apart."""

    #: Passes ``Upgrade`` and ``Connection`` on, without which there is no WebSocket.
    passes_upgrade: bool = True
    #: Keeps connections to the gateway open between requests. Nobody gets that without asking for it: nginx then
    #: speaks HTTP/1.0 to the gateway, which answers without chunks and ends streams by closing.
    keeps_alive: bool = True
    #: ``proxy_buffering``, which is on unless somebody turned it off.
    buffers: bool = False
    #: Takes no notice of the gateway's ``X-Accel-Buffering: no``.
    forces_buffering: bool = False
    #: ``proxy_read_timeout`` (60, as nginx has it): how long the gateway may be silent on a connection.
    read_timeout_s: float = 60.0
    #: HTTP/2 over TLS to the browser; to the gateway it is HTTP/1.1 all the same. A WebSocket has a TCP connection of
    #: its own there, since nginx does not speak the WebSocket of HTTP/2 (RFC 8441).
    has_http2: bool = False


SETUPS = {
    # As nginx's own page on WebSocket proxying has it, with the upstream's keepalive that guides add, and without
    # buffering, as guides on streaming have it.
    "plain": Setup(),
    # The upstream's keepalive as guides have it, and no thought of WebSocket.
    "no_upgrade": Setup(passes_upgrade=False, buffers=True),
    # `proxy_pass` and nothing else. The gateway's header turns buffering off again, response by response.
    "buffering": Setup(passes_upgrade=False, keeps_alive=False, buffers=True),
    # Holds a stream until 4 KiB of it have come, but over HTTP/1.0 alone: nginx passes each chunk of HTTP/1.1 on as it
    # comes, whatever proxy_buffering says. So with `keeps_alive` or `passes_upgrade` it holds nothing.
    "buffering_forced": Setup(passes_upgrade=False, keeps_alive=False, buffers=True, forces_buffering=True),
    "short_timeout": Setup(read_timeout_s=15.0),
    "http2_tls": Setup(has_http2=True),
}

_CONFIGURATION = """\
{user}daemon off;
worker_processes 1;
pid nginx.pid;
error_log error.log info;
{shutdown_timeout}
events {{
    worker_connections 512;
}}

http {{
    log_format requests '$request_method $status $request_time $body_bytes_sent "$http_upgrade" $server_protocol $uri$is_args$args';
    access_log access.log requests;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;

    # Without an upgrade `Connection` goes out empty: the `close` of nginx's page would end each kept connection.
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        ''      '';
    }}

    upstream gateway {{
        server 127.0.0.1:{upstream_port};
        {keepalive}
    }}

    server {{
        listen 127.0.0.1:{listen};
        {tls}
        location / {{
            proxy_pass http://gateway;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_read_timeout {read_timeout_ms}ms;
            {location}
        }}
    }}
}}
"""  # noqa: E501


class Nginx:
    """nginx in front of ``127.0.0.1:upstream_port``, all its files in ``directory``; needs no root, ends with us.

    ``setup`` is one of ``SETUPS``, ``changes`` the fields of ``Setup`` that differ from it. ``shutdown_timeout_s`` is
    ``worker_shutdown_timeout``: what is still open that long after a reload is cut; None, as nginx has it: never.
    """

    def __init__(
        self,
        directory: Path,
        upstream_port: int,
        setup: str = "plain",
        *,
        shutdown_timeout_s: float | None = None,
        **changes: Any,
    ) -> None:
        self.directory = directory
        self.setup = replace(SETUPS[setup], **changes)
        self._upstream_port = upstream_port
        self._shutdown_timeout_s = shutdown_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self.setup.has_http2 else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Raises: AssertionError where it does not listen."""
        program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None:
            pytest.fail("nginx is missing; scripts/test installs it", pytrace=False)
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.setup.has_http2:
            make_certificate(self.directory)
        self.port = _free_port()
        (self.directory / "nginx.conf").write_text(self._configuration())
        # -e: what it says before it has read the configuration would go to /var/log.
        command = [program, "-e", "error.log", "-p", str(self.directory), "-c", "nginx.conf"]
        self._process = subprocess.Popen(command, cwd=self.directory, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            eventually_sync(self._is_up, "nginx listens")
        except AssertionError as error:
            self._process.kill()
            said = self._process.communicate()[1].decode(errors="replace")
            self._process = None
            raise AssertionError(f"nginx did not start: {said}{self.log()}") from error

    def _is_up(self) -> bool:
        assert self._running.poll() is None, "nginx ended"
        return bool(self.workers()) and _accepts(self.port)

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "nginx was not started"
        return self._process

    def _configuration(self) -> str:
        setup = self.setup
        location = [f"proxy_buffering {'on' if setup.buffers else 'off'};"]
        if setup.keeps_alive or setup.passes_upgrade:
            location.append("proxy_http_version 1.1;")
        if setup.forces_buffering:
            location.append("proxy_ignore_headers X-Accel-Buffering;")
        if setup.passes_upgrade:
            location.append("proxy_set_header Upgrade $http_upgrade;")
            location.append("proxy_set_header Connection $connection_upgrade;")
        elif setup.keeps_alive:
            location.append('proxy_set_header Connection "";')
        timeout_ms = None if self._shutdown_timeout_s is None else round(self._shutdown_timeout_s * 1000)
        return _CONFIGURATION.format(
            # As root, workers would become a user who may not enter the directories of tests.
            user="user root;\n" if os.geteuid() == 0 else "",
            shutdown_timeout="" if timeout_ms is None else f"worker_shutdown_timeout {timeout_ms}ms;",
            upstream_port=self._upstream_port,
            keepalive="keepalive 16;" if setup.keeps_alive else "",
            listen=f"{self.port} ssl http2" if setup.has_http2 else self.port,
            tls="ssl_certificate certificate.pem;\n        ssl_certificate_key key.pem;" if setup.has_http2 else "",
            read_timeout_ms=round(setup.read_timeout_s * 1000),
            location="\n            ".join(location),
        )

    def workers(self) -> dict[int, bool]:
        """The workers' process ids, and whether each is ending: finishing what it has, accepting nothing."""
        found = {}
        for child in psutil.Process(self._running.pid).children():
            try:
                title = " ".join(child.cmdline())
            except psutil.NoSuchProcess:
                continue
            # A worker that has just been forked is still named as the master.
            if title.startswith(_WORKER):
                found[child.pid] = "shutting down" in title
        return found

    def reload(self) -> set[int]:
        """What ``nginx -s reload`` does; returns once only new workers accept, with the process ids of the old."""
        old = set(self.workers())
        self._running.send_signal(signal.SIGHUP)

        def is_over() -> bool:
            workers = self.workers()
            return any(pid not in old for pid in workers) and all(workers[pid] for pid in old & workers.keys())

        eventually_sync(is_over, f"new workers after a reload: {self.log()[-2000:]}")
        return old

    def await_end_of(self, workers: set[int], seconds: float = 10.0) -> None:
        """Wait until these, of before a reload, are gone, and with them each connection they had."""
        eventually_sync(lambda: not workers & self.workers().keys(), f"the end of the workers {workers}", seconds)

    def log(self) -> str:
        """Errors and what it says about itself."""
        path = self.directory / "error.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def requests(self) -> list[str]:
        """The requests that are over: method, status, seconds, bytes, "Upgrade", protocol, target."""
        return (self.directory / "access.log").read_text(errors="replace").splitlines()

    def stop(self) -> None:
        """Cut every connection and end."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.terminate()
        try:
            process.communicate(timeout=timeout_s(10))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise AssertionError(f"nginx did not end:\n{self.log()[-8000:]}") from None

    def __enter__(self) -> Nginx:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def make_certificate(directory: Path) -> None:
    """``certificate.pem`` and ``key.pem`` for 127.0.0.1, signed by itself."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(directory / "key.pem"), "-out", str(directory / "certificate.pem")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s(20), check=False)
    assert done.returncode == 0, f"openssl failed: {done.stderr}"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
