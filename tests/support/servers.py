"""Servers for tests: a process of its own, or one inside the test's loop."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from aiohttp import web

import gateway
from transports.engine import Engine
from transports.hosts.aiohttp import attached_engines

from .waiting import eventually_sync, timeout_s

ROOT = Path(__file__).parent.parent.parent
LISTENERS = ("fast", "aiohttp")

_NO_HTTP = re.compile(
    r"ERROR:aiohttp\.server:Error handling request[^\n]*\nTraceback [^\n]*\n(?:  [^\n]*\n)+aiohttp\.http_exceptions\."
)


class ServerProcess:
    """``module``, which takes the arguments of ``tests.support.apps``, in a process of its own."""

    def __init__(
        self, *, listener: str = "fast", loop: str = "uvloop", module: str = "tests.support.apps", **options: Any
    ) -> None:
        self._log = tempfile.NamedTemporaryFile(prefix="tidegate-server-", suffix=".log")  # noqa: SIM115
        self._checked_to = 0
        self._is_stopping = False
        command = [sys.executable, "-m", module]
        command += ["--listener", listener, "--loop", loop, "--options", json.dumps(options)]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=self._log, stdin=subprocess.DEVNULL, bufsize=0
        )
        self.port = self._await_port()

    def _await_port(self) -> int:
        stdout = self._process.stdout
        assert stdout is not None
        os.set_blocking(stdout.fileno(), False)
        output = b""

        def has_port() -> bool:
            nonlocal output
            output += stdout.read() or b""
            assert self._process.poll() is None, f"the server ended:\n{self.log()}"
            return output.startswith(b"PORT ") and output.endswith(b"\n")

        try:
            eventually_sync(has_port, "the server's port", 20)
        except AssertionError:
            self._process.kill()
            self._process.wait()
            raise
        return int(output.split()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def log(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    def check_log(self) -> None:
        """Fail where what was logged since the last check has a traceback.

        With each request that is no HTTP, aiohttp logs one of its parser's.
        """
        log = self.log()
        fresh, self._checked_to = log[self._checked_to :], len(log)
        fresh = _NO_HTTP.sub("", fresh)
        if "Traceback (most recent call last)" in fresh:
            pytest.fail(f"the server logged a traceback:\n{fresh[-8000:]}", pytrace=False)

    def accept_log(self) -> None:
        """What was logged until now is what the test has asked for."""
        self._checked_to = len(self.log())

    def begin_stop(self) -> None:
        if self._process.poll() is None and not self._is_stopping:
            self._is_stopping = True
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """End it, gently at first. Raises: AssertionError where it does not end cleanly."""
        self.begin_stop()
        try:
            code = self._process.wait(timeout_s(20))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the server did not end on SIGTERM:\n{self.log()[-8000:]}") from None
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
        assert code == 0, f"the server ended with {code}:\n{self.log()[-8000:]}"

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.stop()
            if error is None:
                self.check_log()
        finally:
            self._log.close()


class ServerPool:
    """Server processes by their options, started when first asked for."""

    def __init__(self) -> None:
        self._servers: dict[str, ServerProcess] = {}

    def get(self, **options: Any) -> ServerProcess:
        key = json.dumps(options, sort_keys=True)
        if key not in self._servers:
            self._servers[key] = ServerProcess(**options)
        return self._servers[key]

    def check_logs(self) -> None:
        for server in self._servers.values():
            server.check_log()

    def close(self) -> None:
        for server in self._servers.values():
            server.begin_stop()
        with contextlib.ExitStack() as stack:
            for server in self._servers.values():
                stack.enter_context(server)


@contextlib.contextmanager
def server_pool() -> Iterator[ServerPool]:
    pool = ServerPool()
    try:
        yield pool
    finally:
        pool.close()


@contextlib.asynccontextmanager
async def serving(app: web.Application, listener: str = "fast") -> AsyncIterator[int]:
    """The port of ``app``, served in this loop by the fast listener or by aiohttp's own runner."""
    runner_class = gateway.AppRunner if listener == "fast" else web.AppRunner
    runner = runner_class(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    try:
        await site.start()
        yield runner.addresses[0][1]
    finally:
        for engine in attached_engines(app).values():
            _cut(engine)
        await runner.cleanup()


def _cut(engine: Engine) -> None:
    """End what the test has left open, so that nobody waits for clients that are gone."""
    for session in list(engine.sockets.values()):
        if session.port is not None:
            session.port.abort()
        session.close("transport close")
        session.give_up()
    for port in list(engine.lingering):
        port.abort()
