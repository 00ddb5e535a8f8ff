"""Workers that start unevenly, fail, hang or leave something behind, and signals at awkward moments."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.workers.place import SILENT_S
from tests.support.waiting import eventually_sync, timeout_s
from tests.workers.conftest import Gateway, Notified
from tests.workers.test_supervision import is_gone

Start = Callable[..., Gateway]

UNEVEN = """
import os, time
from pathlib import Path
from tests.support.apps import create_app
try:
    os.mkdir("late")  # by one of them
except FileExistsError:
    pass
else:
    while not Path("go").exists():
        time.sleep(0.01)
app = create_app({"handshakes_per_second": 0})
"""


def test_sockets_are_shared_out_evenly_however_long_the_last_worker_takes(gateway: Start) -> None:
    server = gateway("--workers", "3", source=UNEVEN)

    def early(status: dict[str, Any]) -> list[dict[str, Any]]:
        return [each for each in status["workers"] if each["state"] == "ready"]

    server.eventually(lambda status: len(early(status)) == 2, "two are ready", 30)
    ready_at = time.monotonic()
    eventually_sync(lambda: time.monotonic() - ready_at > SILENT_S, "they have been silent", SILENT_S + 10)
    (server.folder / "go").touch()
    assert server.port
    assert [each["accepts"] for each in server.status()["workers"]] == [[0], [1], [2]]


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_NOFILE"), reason="limits of another process cannot be set here")
def test_process_that_cannot_be_started_is_tried_again(gateway: Start) -> None:
    server = gateway("--workers", "2")
    assert server.port
    victim, survivor = server.status()["workers"]
    supervisor = psutil.Process(server.process.pid)
    limits = supervisor.rlimit(psutil.RLIMIT_NOFILE)
    supervisor.rlimit(psutil.RLIMIT_NOFILE, (3, limits[1]))  # it gets no descriptor any more
    os.kill(victim["pid"], signal.SIGKILL)
    eventually_sync(lambda: server.log.count("there can be no process for worker 0") == 2, "it is tried again", 30)
    server.signal(signal.SIGHUP)
    eventually_sync(lambda: "the new worker 1 does not start; those that run go on" in server.log, "the refusal", 30)
    supervisor.rlimit(psutil.RLIMIT_NOFILE, limits)
    server.eventually(lambda status: len([w for w in status["workers"] if w["state"] == "ready"]) == 2, "two", 60)
    assert survivor["id"] in server.workers()
    assert server.end() == 0
    assert list(server.runtime_dir.iterdir()) == []


def test_start_without_a_process_is_said_and_ends(gateway: Start) -> None:
    script = "import sys\nsys.executable = '/nowhere/python'\nfrom gateway.cli import main\nsys.exit(main())"
    server = gateway("--workers", "2", command=[sys.executable, "-c", script])
    assert server.ended() == 1
    assert server.log.count("there can be no process for worker 0: [Errno 2] No such file or directory") == 1
    assert list(server.runtime_dir.iterdir()) == []


FORKS = """
import os, signal, time
from pathlib import Path
from tests.support.apps import create_app
if os.fork() == 0:
    Path(f"child-{os.getpid()}").touch()
    signal.pause()
app = create_app({"handshakes_per_second": 0})
"""


@pytest.fixture
def forking(gateway: Start) -> Iterator[Start]:
    """Starts gateways whose workers fork a child each, which outlives them; ``then``: more of their application."""
    started: list[Gateway] = []

    def start(*arguments: str, then: str = "") -> Gateway:
        started.append(gateway(*arguments, source=FORKS + then))
        return started[-1]

    yield start
    for server in started:
        for path in server.folder.glob("child-*"):
            os.kill(int(path.name.removeprefix("child-")), signal.SIGKILL)


def test_end_of_a_worker_is_noticed_while_its_child_lives(forking: Start) -> None:
    server = forking("--workers", "2")
    assert server.port
    victim = server.status()["workers"][0]
    os.kill(victim["pid"], signal.SIGKILL)
    server.eventually(
        lambda status: (
            [(w["state"], w["pid"] != victim["pid"]) for w in status["workers"] if w["index"] == 0] == [("ready", True)]
        ),
        "another has its place",
    )
    assert "worker 0 ended with SIGKILL" in server.log
    assert server.end() == 0


def test_worker_that_hangs_at_the_start_ends_it_while_its_child_lives(forking: Start) -> None:
    server = forking("--workers", "2", "--worker-timeout-s", "3", then="signal.pause()\n")
    assert server.ended() == 1
    assert "did not start within 3s" in server.log
    assert "nothing is served" in server.log


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what descriptors are")
def test_programs_of_the_application_do_not_get_the_sockets(gateway: Start) -> None:
    source = (
        "import subprocess\nfrom tests.support.apps import create_app\n"
        "subprocess.run(['ls', '-l', '/proc/self/fd'], close_fds=False, check=True)\napp = create_app({})\n"
    )
    server = gateway("--workers", "2", source=source)
    assert server.port
    assert "2 -> " in server.log
    assert "socket:" not in server.log


KEPT = """
import threading
threading.Thread(target=threading.Event().wait).start()
raise OSError("the licence is taken")
"""


def test_failure_is_said_although_threads_of_the_application_go_on(gateway: Start) -> None:
    server = gateway("--workers", "2", "--worker-timeout-s", "0", source=KEPT)
    assert server.process.wait(timeout_s(30)) == 1
    assert server.log.count("OSError: the licence is taken") == 1
    assert "has failed but does not end, and is killed" in server.log


WAITS = """
import time
from pathlib import Path
from tests.support.apps import create_app
while not Path("go").exists():
    time.sleep(0.01)
app = create_app({"handshakes_per_second": 0})
"""


@pytest.fixture
def waiting(gateway: Start, tmp_path: Path) -> Gateway:
    """Its workers are starting, and go on once there is a file ``go``."""
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    server = gateway("--workers", "2", "--drain-timeout-s", "1", source=WAITS, environ=environ)
    server.eventually(lambda status: [bool(each["pid"]) for each in status["workers"]] == [True, True], "both start")
    return server


def test_sigterm_while_workers_start_does_not_wait_for_them(waiting: Gateway) -> None:
    pids = [each["pid"] for each in waiting.status()["workers"]]
    assert waiting.end() == 0
    assert " ERROR " not in waiting.log, "none had to be killed, and none has failed"
    assert all(map(is_gone, pids))


def test_sighup_while_workers_start_is_kept_for_when_they_serve(waiting: Gateway) -> None:
    first = {each["pid"] for each in waiting.status()["workers"]}
    waiting.signal(signal.SIGHUP)
    (waiting.folder / "go").touch()

    def are_others(status: dict[str, Any]) -> bool:
        ready = {each["pid"] for each in status["workers"] if each["state"] == "ready"}
        return len(ready) == 2 and not first & ready

    waiting.eventually(are_others, "two others", 60)
    assert waiting.end() == 0


def test_sigterm_during_a_rolling_restart_ends_that_too(waiting: Gateway, notified: Notified) -> None:
    (waiting.folder / "go").touch()
    eventually_sync(lambda: notified.told("READY=1"), "ready", 30)
    (waiting.folder / "go").unlink()
    notified.lines.clear()
    waiting.signal(signal.SIGHUP)
    waiting.eventually(lambda status: len(status["workers"]) == 3, "a new one starts")
    assert waiting.end() == 0
    assert notified.told("STOPPING=1")
    assert "READY=1" not in notified.lines
    assert " ERROR " not in waiting.log
