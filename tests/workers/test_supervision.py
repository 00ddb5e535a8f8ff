"""The supervisor: what it starts, restarts, refuses and tells."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.raw import Connection, EngineClient
from tests.support.waiting import eventually_sync, timeout_s
from tests.workers.conftest import TIDEGATE, Gateway, Notified

Start = Callable[..., Gateway]


def connects(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def is_gone(pid: int) -> bool:
    """Also its threads: the last of them closes its sockets."""
    try:
        process = psutil.Process(pid)
        return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
    except psutil.NoSuchProcess:
        return True


async def test_every_worker_answers_for_the_sessions_of_each(gateway: Start) -> None:
    server = gateway("--workers", "3")
    client = server.client
    workers = server.workers()
    sids = [(await client.handshake())["sid"] for _ in range(30)]
    assert {sid[:7] for sid in sids} == set(workers)
    for sid in sids:
        assert (await client.post(sid, "40")).text == "ok"
        assert (await client.get(sid)).text.startswith('40{"sid":"' + sid[:7])
    # One connection, requests for all: it goes from owner to owner.
    async with await Connection.open(server.port) as connection:
        for sid in sids:
            target = client.target(transport="polling", sid=sid)
            await connection.send(f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n3".encode())
            assert (await connection.read_response()).text == "ok"
        # Also where they are sent ahead.
        posts = [
            f"POST {client.target(transport='polling', sid=sid)} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n3"
            for sid in sids
        ]
        await connection.send("".join(posts).encode())
        for _ in sids:
            assert (await connection.read_response()).text == "ok"


async def test_session_of_a_worker_that_is_gone_is_unknown_at_once(gateway: Start) -> None:
    server = gateway("--workers", "2", "--ping-interval-s", "60")
    client = server.client
    workers = server.workers()
    sid = (await client.handshake())["sid"]
    os.kill(workers[sid[:7]], signal.SIGKILL)
    eventually_sync(lambda: is_gone(workers[sid[:7]]), "it is gone")
    for attempt in (client.get(sid), client.post(sid, "3"), client.get("aaaaaaa" + sid[7:]), client.get("../" + sid)):
        answer = await attempt
        assert (answer.status, answer.json()) == (400, {"code": 1, "message": "Session ID unknown"})
    server.eventually(lambda status: len([each for each in status["workers"] if each["state"] == "ready"]) == 2, "two")


async def test_port_is_never_refused_while_workers_die(gateway: Start) -> None:
    server = gateway("--workers", "2")
    client = server.client
    for _ in range(2):
        for pid in server.workers().values():
            os.kill(pid, signal.SIGKILL)
        answer = await client.request("GET", client.target(transport="polling"))
        assert answer.status == 200
        server.eventually(lambda status: len([w for w in status["workers"] if w["state"] == "ready"]) == 2, "two", 60)
    assert sum(each["restarts"] for each in server.status()["workers"]) == 4


DIES_LATER = """
import os
from aiohttp import web
from tests.support.apps import create_app
app = create_app({"handshakes_per_second": 0})
if os.path.exists("poison"):
    os._exit(7)
"""


async def test_worker_that_dies_at_once_is_started_again_less_and_less_often(gateway: Start) -> None:
    server = gateway("--workers", "2", source=DIES_LATER)
    client = server.client
    assert server.port
    (server.folder / "poison").touch()
    victim, survivor = server.status()["workers"]
    os.kill(victim["pid"], signal.SIGKILL)
    eventually_sync(lambda: "is started again in 0.5s" in server.log, "the second delay", 30)
    # Meanwhile the other accepts in its place.
    server.eventually(lambda status: [0, 1] in [each["accepts"] for each in status["workers"]], "one accepts for both")
    for _ in range(20):
        assert (await client.handshake())["sid"].startswith(survivor["id"])
    (server.folder / "poison").unlink()
    server.eventually(lambda status: len([w for w in status["workers"] if w["state"] == "ready"]) == 2, "two", 30)
    server.eventually(
        lambda status: sorted(each["accepts"] for each in status["workers"]) == [[0], [1]], "each has its own again"
    )
    assert server.log.count("ended with exit code 7") <= 6
    # A configuration that has become bad is said so, and those that run go on.
    (server.folder / "poison").touch()
    server.signal(signal.SIGHUP)
    eventually_sync(lambda: "those that run go on as they are" in server.log, "the refusal", 30)
    assert len(server.workers()) == 2
    assert server.end() == 0


@pytest.mark.parametrize(
    ("source", "arguments", "code", "said"),
    [
        ("app = 3\n", (), 2, "the configuration is refused"),
        ("import nothing_of_that_name\n", (), 1, "the application does not start"),
        ("import os\nos.abort()\n", (), 1, "SIGABRT"),
        ("", ("--workers", "0"), 2, "must be a whole number from 1 to 1024, or auto"),
        ("", ("--cluster-listen", "127.0.0.1:0"), 2, "needs cluster_secret beside it"),
        ("", ("--cluster-listen", "x", "--cluster-secret", "y" * 16), 2, "must be an address and a port"),
        ("", ("--cluster-secret", "short"), 2, "must have 16 characters or more"),
        ("", ("--runtime-dir", "/proc/none"), 2, "runtime_dir"),
    ],
)
def test_what_cannot_work_is_said_and_ends(
    gateway: Start, source: str, arguments: tuple[str, ...], code: int, said: str
) -> None:
    workers = () if "--workers" in arguments else ("--workers", "2")
    server = gateway(*workers, *arguments, source=source)
    assert server.process.wait(timeout_s(20)) == code
    assert server.log.count(said) == 1, "once, whatever the number of workers"
    assert server.log.count("nothing is served") <= 1


TOGETHER = """
import os, time
from pathlib import Path
from tests.support.apps import create_app
Path(f"here-{os.getpid()}").touch()
while len(list(Path().glob("here-*"))) < 3:
    time.sleep(0.01)
app = create_app({"handshakes_per_second": 0})
"""


async def test_workers_start_at_once_and_serve_together(gateway: Start) -> None:
    """Each waits for the others while it loads the application."""
    server = gateway("--workers", "3", "--drain-timeout-s", "1", source=TOGETHER)
    owners = {(await server.client.handshake())["sid"][:7] for _ in range(30)}
    assert owners == set(server.workers()), "none has served before the others"
    assert server.end() == 0


@pytest.mark.parametrize(
    ("failure", "code", "said"),
    [("raise OSError('the licence is taken')", 1, "OSError: the licence is taken"), ("app = 3", 2, "application:app")],
)
def test_worker_that_does_not_start_ends_the_others(gateway: Start, failure: str, code: int, said: str) -> None:
    source = f"""{TOGETHER}
try:
    os.mkdir("one")  # by one of them
except FileExistsError:
    pass
else:
    {failure}
"""
    server = gateway("--workers", "3", "--log-format", "json", source=source)
    assert server.process.wait(timeout_s(30)) == code
    lines = [json.loads(line) for line in server.log.splitlines()]
    (refusal,) = [line for line in lines if "nothing is served" in line["message"]]
    assert said in refusal["exception"]
    assert "Running" not in server.log
    assert all(is_gone(line["pid"]) for line in lines if line["message"].endswith(" starts"))


def test_port_in_use_is_refused_also_by_a_gateway_that_could_share_it(gateway: Start) -> None:
    first = gateway("--workers", "2")
    second = gateway("--workers", "2", "--port", str(first.port))
    assert second.ended() == 1
    assert "the address is in use" in second.log
    assert first.process.poll() is None


def test_sigterm_drains_and_leaves_nothing(gateway: Start) -> None:
    server = gateway("--workers", "2")
    pids = list(server.workers().values())
    port = server.port
    assert list(server.runtime_dir.glob("*/*.sock"))
    assert server.end() == 0
    assert not connects(port)
    assert all(map(is_gone, pids))
    assert list(server.runtime_dir.iterdir()) == []


async def test_sigterm_lets_handlers_finish(gateway: Start) -> None:
    source = (
        "import asyncio, gateway\nserver = app = gateway.Server()\n"
        "@server.event\nasync def slow(sid):\n    print('begins', flush=True)\n    await asyncio.sleep(0.5)\n"
        "    return 'done'\n"
    )
    server = gateway("--workers", "2", source=source)
    ws = await server.client.websocket()
    await ws.opening()
    await ws.send("40")
    await ws.text()
    await ws.send('421["slow"]')
    eventually_sync(lambda: "begins" in server.log, "the handler")
    server.signal(signal.SIGTERM)
    assert await ws.text() == '431["done"]'
    await ws.close()
    assert await asyncio.to_thread(server.ended) == 0


def test_killed_supervisor_takes_its_workers_along(gateway: Start) -> None:
    server = gateway("--workers", "2", "--drain-timeout-s", "1")
    pids = list(server.workers().values())
    server.process.kill()
    eventually_sync(lambda: all(map(is_gone, pids)), "they end", 20)
    # What it has left is no gateway any more, and cleared by the next.
    done = subprocess.run([TIDEGATE, "workers"], env=server.environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no gateway with workers runs under" in done.stderr
    left = next(server.runtime_dir.iterdir())
    other = gateway("--workers", "2", "--runtime-dir", str(server.runtime_dir))
    assert other.port
    assert not left.exists()


STUCK = """
import time
from tests.support.apps import create_app
app = create_app({})
async def stick(request):
    time.sleep(600)
app.router.add_get("/stick", stick)
"""


async def test_worker_that_is_held_up_is_replaced(gateway: Start) -> None:
    server = gateway("--workers", "2", "--worker-timeout-s", "5", source=STUCK)
    before = server.workers()
    async with await Connection.open(server.port) as connection:
        await connection.send(b"GET /stick HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await connection.has_ended()
    server.eventually(lambda status: len(set(server.workers()) - set(before)) == 1, "another worker")
    assert "has been held up for 5s, and is killed" in server.log


def test_table_shows_each_worker_and_the_sum(gateway: Start) -> None:
    server = gateway("--workers", "2")
    assert server.port
    server.eventually(lambda status: all("cpu_s" in each for each in status["workers"]), "reports")
    done = subprocess.run(
        [TIDEGATE, "workers"], env=server.environ, capture_output=True, text=True, check=True, cwd=server.folder
    )
    address, headings, first, second, total = done.stdout.splitlines()
    assert address == f"127.0.0.1:{server.port}  running"
    assert headings.split() == [
        "WORKER",
        "PID",
        "ID",
        "STATE",
        "SESSIONS",
        "IN",
        "OUT",
        "MEMORY",
        "CPU",
        "LAG",
        "RESTARTS",
        "AGE",
    ]
    assert {first.split()[2], second.split()[2]} == set(server.workers())
    assert total.split()[:2] == ["all", str(server.process.pid)]
    status = server.status()
    assert status["total"]["memory_bytes"] == sum(each["memory_bytes"] for each in status["workers"])


def test_directory_that_others_can_write_to_is_refused(gateway: Start, tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    server = gateway("--workers", "2", "--runtime-dir", str(folder))
    assert server.process.wait(timeout_s(20)) == 2
    assert "can be written by other users" in server.log


# -- service managers ------------------------------------------------------------------------------------------


def test_systemd_is_told(gateway: Start, notified: Notified, tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1500000"}
    server = gateway("--workers", "2", environ=environ)
    eventually_sync(lambda: notified.told("READY=1"), "ready", 30)
    assert f"MAINPID={server.process.pid}" in notified.lines
    assert connects(server.port)
    eventually_sync(lambda: notified.told("WATCHDOG=1"), "alive")
    notified.lines.clear()
    server.signal(signal.SIGHUP)
    eventually_sync(lambda: notified.told("RELOADING=1"), "reloading")
    assert any(line.startswith("MONOTONIC_USEC=") for line in notified.lines)
    eventually_sync(lambda: notified.told("READY=1"), "ready again", 30)
    assert "STOPPING=1" not in notified.lines
    assert server.end() == 0
    assert notified.told("STOPPING=1")


def test_one_process_tells_systemd_as_well(gateway: Start, notified: Notified, tmp_path: Path) -> None:
    server = gateway(environ={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    eventually_sync(lambda: notified.told("READY=1"), "ready", 30)
    assert connects(server.port)
    assert server.end() == 0
    assert notified.told("STOPPING=1")


@contextmanager
def activating(listening: socket.socket) -> Iterator[dict[str, Any]]:
    """Options for ``Popen`` that pass the socket on as systemd does: as descriptor 3, to a process of known id."""
    script = (
        "import os, sys\nos.dup2(int(sys.argv[1]), 3)\n"
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\nos.execv(sys.argv[2], sys.argv[2:])\n"
    )
    fd = listening.fileno()
    yield {"command": [sys.executable, "-c", script, str(fd), str(TIDEGATE)], "pass_fds": [fd]}


@pytest.mark.parametrize("workers", ["3", "1"])
async def test_socket_that_systemd_has_opened(gateway: Start, workers: str) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        port = listening.getsockname()[1]
        early = socket.create_connection(("127.0.0.1", port))  # before anybody is there
        with activating(listening) as options:
            server = gateway("--workers", workers, "--drain-timeout-s", "1", **options)
        with early:
            early.sendall(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n")
            early.settimeout(timeout_s(30))
            assert early.recv(4096).startswith(b"HTTP/1.1 200")
        client = EngineClient(port, "/socket.io/")
        sids = [(await client.handshake())["sid"] for _ in range(10)]
        for sid in sids:
            assert (await client.post(sid, "40")).text == "ok"
        server.signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.ended) == 0
        assert connects(port), "it is systemd's, and stays open"


def test_terminal_interrupt_drains(gateway: Start) -> None:
    server = gateway("--workers", "2", start_new_session=True)
    assert server.port
    began = time.monotonic()
    os.killpg(server.process.pid, signal.SIGINT)
    assert server.ended() == 0
    assert time.monotonic() - began < timeout_s(15)
    assert json.dumps(server.log).count("Traceback") == 0
