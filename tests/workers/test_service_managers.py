"""The configurations of docs/workers.md for service managers, run as they stand there but for paths and user."""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.raw import EngineClient
from tests.support.servers import ROOT
from tests.support.waiting import eventually_sync, timeout_s
from tests.workers.test_supervision import connects, is_gone

PAGE = (ROOT / "docs" / "workers.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent

APPLICATION = """
import asyncio, gateway
server = gateway.Server()
@server.event
async def until_it_drains(sid):
    print('begins', flush=True)
    while not server.eio.is_draining:
        await asyncio.sleep(0.01)
    return 'done'
"""


def configuration(path: str, folder: Path) -> str:
    """The block of the page whose first line says that it is the file ``path``, for an application in ``folder``."""
    (block,) = re.findall(rf"^```ini\n[#;] {re.escape(path)}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    changed = {
        "/srv/chat/venv/bin": str(BIN),
        "/srv/chat": str(folder),
        "/var/log/supervisor": str(folder),
        "user=chat": f"user={getpass.getuser()}",
        "User=chat": f"User={getpass.getuser()}",
    }
    text: str = block
    for documented, here in changed.items():
        text = text.replace(documented, here)
    return text


class Supervisord:
    """supervisord with the documented program, which listens at ``port``."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        (folder / "chat.py").write_text(APPLICATION)
        self._log_path = folder / "supervisord.log"
        self._log_path.touch()
        self._file = folder / "supervisord.conf"
        self._file.write_text(
            f"[supervisord]\nlogfile={folder}/supervisord.log\npidfile={folder}/pid\n"
            f"[unix_http_server]\nfile={folder}/socket\n[supervisorctl]\nserverurl=unix://{folder}/socket\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n"
            + configuration("/etc/supervisor/conf.d/tidegate.conf", folder)
        )
        clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
        clean |= {"TIDEGATE_HOST": "127.0.0.1", "TIDEGATE_PORT": str(port), "TIDEGATE_RUNTIME_DIR": str(folder / "run")}
        clean |= {"TIDEGATE_DRAIN_TIMEOUT_S": "5"}
        self._process = subprocess.Popen(
            [BIN / "supervisord", "--nodaemon", "--configuration", self._file],
            env=clean,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def log(self) -> str:
        """What it has said itself."""
        return self._log_path.read_text()

    @property
    def program_log(self) -> str:
        return (self.folder / "tidegate.log").read_text()

    def control(self, *words: str) -> str:
        """What ``supervisorctl`` says to that."""
        done = subprocess.run(
            [BIN / "supervisorctl", "--configuration", self._file, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s(60),
        )
        return done.stdout + done.stderr

    def await_serving(self) -> None:
        """Until supervisord takes it for running, and as many times as it was started it has said that it serves."""

        def serves() -> bool:
            return self.program_log.count("Running on") == self.log.count("spawned: 'tidegate'")

        try:
            eventually_sync(lambda: "RUNNING" in self.control("status", "tidegate"), "supervisord takes it so", 60)
            eventually_sync(serves, "it serves", 60)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log}\n{self.program_log}") from None

    @property
    def pid(self) -> int:
        return int(self.control("pid", "tidegate"))

    def workers(self) -> set[int]:
        return {each.pid for each in psutil.Process(self.pid).children()}

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout_s(40))
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()


@pytest.fixture
def supervisord(tmp_path: Path, unused_tcp_port: int) -> Iterator[Supervisord]:
    folder = tmp_path / "s"
    folder.mkdir()
    made = Supervisord(folder, unused_tcp_port)
    yield made
    made.end()


async def test_supervisord_stops_it_when_it_has_drained(supervisord: Supervisord) -> None:
    supervisord.await_serving()
    pid, workers = supervisord.pid, supervisord.workers()
    client = EngineClient(supervisord.port, "/socket.io/")
    ws = await client.websocket()
    ws.connection.patience_s = 30
    await ws.opening()
    await ws.send("40")
    await ws.text()
    await ws.send('421["until_it_drains"]')
    eventually_sync(lambda: "begins" in supervisord.program_log, "the handler")
    stopping = asyncio.create_task(asyncio.to_thread(supervisord.control, "stop", "tidegate"))
    assert await ws.text() == '431["done"]'
    await ws.close()
    assert await stopping == "tidegate: stopped\n"
    assert "stopped: tidegate (exit status 0)" in supervisord.log
    assert all(map(is_gone, (pid, *workers)))
    assert not connects(supervisord.port)
    # Those of the supervisor and of its workers, in one file.
    assert re.search(r"INFO tidegate\.supervisor stopping \d+ workers", supervisord.program_log)
    assert re.search(r"INFO tidegate\.worker stopping: 1 clients are told .* worker=\w{7}", supervisord.program_log)
    assert supervisord.control("start", "tidegate") == "tidegate: started\n"
    supervisord.await_serving()
    assert (await client.request("GET", "/")).status == 404


async def test_supervisord_restarts_what_was_killed(supervisord: Supervisord) -> None:
    supervisord.await_serving()
    client = EngineClient(supervisord.port, "/socket.io/")
    # A client that never asks: the workers that are left behind cannot tell it anything, and wait.
    await client.handshake()
    first, workers = supervisord.pid, supervisord.workers()
    os.kill(first, signal.SIGKILL)
    eventually_sync(lambda: "terminated by SIGKILL; not expected" in supervisord.log, "it is noticed")
    supervisord.await_serving()
    assert supervisord.pid != first
    assert "address is in use" not in supervisord.program_log
    assert (await client.request("GET", "/")).status == 404
    eventually_sync(lambda: all(map(is_gone, workers)), "the workers of the first end", 30)
    # And one by one, by the signal that the page names.
    pid, workers = supervisord.pid, supervisord.workers()
    assert supervisord.control("signal", "HUP", "tidegate") == "tidegate: signalled\n"
    eventually_sync(lambda: all(map(is_gone, workers)), "a rolling restart", 60)
    assert supervisord.pid == pid
    assert (await client.request("GET", "/")).status == 404


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    version = int(subprocess.check_output(["systemd-analyze", "--version"], text=True).split()[1])
    for name in ("tidegate.service", "tidegate.socket"):
        text = configuration(f"/etc/systemd/system/{name}", tmp_path)
        if version < 253:
            text = text.replace("Type=notify-reload", "Type=notify\nExecReload=kill -HUP $MAINPID")  # as the page says
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "tidegate.service", tmp_path / "tidegate.socket"],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s(60),
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
