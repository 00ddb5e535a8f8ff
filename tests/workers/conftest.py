"""Gateways with workers, as processes of their own, and clients in Node that keep asking."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.workers import control, runtime_dir
from tests.conformance.node_scripts import HERE as NODE_FOLDER
from tests.support.raw import EngineClient
from tests.support.servers import ROOT
from tests.support.waiting import TIMEOUT_FACTOR, eventually_sync, timeout_s

TIDEGATE = Path(sys.executable).with_name("tidegate")
RUNNING = re.compile(r"Running on https?://127\.0\.0\.1:(\d+)")

APPLICATION = """
from tests.support.apps import create_app

OPTIONS = {"handshakes_per_second": 0}
app = create_app(OPTIONS)
"""


class Gateway:
    """``tidegate serve`` with these arguments; ``source`` is the module ``application`` beside it."""

    def __init__(self, folder: Path, *arguments: str, source: str = APPLICATION, **options: Any) -> None:
        folder.mkdir()
        self.folder = folder
        (folder / "application.py").write_text(source)
        self.log_path = folder / "stderr.log"
        self.runtime_dir = folder / "run"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
        environ = {**clean, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT), **options.pop("environ", {})}
        environ["TIDEGATE_RUNTIME_DIR"] = str(self.runtime_dir)
        self.environ = environ
        command = options.pop("command", [str(TIDEGATE)])
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "serve", options.pop("application", "application:app"), *arguments],
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **options,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    @property
    def port(self) -> int:
        def found() -> re.Match[str] | None:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log}"
            return RUNNING.search(self.log)

        return int(eventually_sync(found, "the address in the log", 30)[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> EngineClient:
        return EngineClient(self.port, "/socket.io/")

    def status(self) -> dict[str, Any]:
        """What ``tidegate workers --json`` prints of it."""
        found: list[dict[str, Any]] = []

        def answers() -> bool:
            found[:] = [
                answer
                for path in runtime_dir.controls(self.runtime_dir)
                if (answer := control.ask(path)) is not None and answer["pid"] == self.process.pid
            ]
            return bool(found)

        eventually_sync(answers, "the control socket")
        return found[0]

    def workers(self) -> dict[str, int]:
        """Process ids of the workers that serve, by worker id."""
        return {each["id"]: each["pid"] for each in self.status()["workers"] if each["state"] == "ready"}

    def eventually(self, condition: Callable[[dict[str, Any]], Any], what: str, seconds: float = 20) -> Any:
        """Waits for something in the status."""
        try:
            return eventually_sync(lambda: condition(self.status()), what, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.status())}\n{self.log[-4000:]}") from None

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, seconds: float = 30) -> int:
        """Ask it to stop; its exit code."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.ended(seconds)

    def ended(self, seconds: float = 30) -> int:
        code = self.process.wait(timeout_s(seconds))
        assert "Traceback" not in self.log, self.log[-8000:]
        return code

    def kill(self) -> None:
        """The supervisor and its workers, however the test has ended."""
        try:
            family = [*psutil.Process(self.process.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            family = []
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for each in family:
            if each.is_running():
                each.kill()


class NodeClients:
    """``node/workers.mjs``, or another script that takes the same commands, while it runs."""

    def __init__(self, script: str = "workers", **settings: Any) -> None:
        for needed in (NODE_FOLDER / "node_modules", ROOT / "client_js" / "dist"):
            if not needed.exists():
                pytest.fail(f"{needed.relative_to(ROOT)} is missing; scripts/test makes it", pytrace=False)
        self.process = subprocess.Popen(
            ["node", f"node/{script}.mjs", json.dumps(settings)],
            cwd=NODE_FOLDER,
            env={**os.environ, "TEST_TIMEOUT_FACTOR": str(TIMEOUT_FACTOR)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def await_running(self) -> None:
        """Until all are connected, upgraded and answered."""
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert line == "RUNNING\n", line + self.process.stderr.read()

    def stop(self) -> list[dict[str, Any]]:
        """What each has seen, once nothing is outstanding."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("stop\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended by itself; what it says about that comes now
        return self.results()

    def results(self) -> list[dict[str, Any]]:
        output, errors = self.process.communicate(timeout=timeout_s(90))
        assert self.process.returncode == 0, f"{output[-4000:]}\n{errors[-4000:]}"
        found: list[dict[str, Any]] = json.loads(output)
        return found

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Notified:
    """What a service manager is told."""

    def __init__(self, path: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.setblocking(False)
        self.lines: list[str] = []

    def told(self, line: str) -> bool:
        while True:
            try:
                self.lines += self._sock.recv(4096).decode().splitlines()
            except BlockingIOError:
                return line in self.lines

    def close(self) -> None:
        self._sock.close()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Starts gateways on a free port of their own."""
    started: list[Gateway] = []

    def start(*arguments: str, **options: Any) -> Gateway:
        arguments = arguments if "--port" in arguments else (*arguments, "--port", "0")
        started.append(Gateway(tmp_path / f"gateway-{len(started)}", *arguments, **options))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def node_clients() -> Iterator[Callable[..., NodeClients]]:
    started: list[NodeClients] = []

    def start(script: str = "workers", **settings: Any) -> NodeClients:
        started.append(NodeClients(script, **settings))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[Notified]:
    made = Notified(tmp_path / "notify")
    yield made
    made.close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    certfile, keyfile = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(keyfile), "-out", str(certfile), "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run(
        [*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True, timeout=timeout_s(30)
    )
    return certfile, keyfile
