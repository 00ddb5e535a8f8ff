"""Parts of the supervisor that need no process."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from gateway.workers import report, runtime_dir
from gateway.workers.listening import bind, name_of
from gateway.workers.notify import Notifier, inherited_sockets
from gateway.workers.restarts import FIRST_DELAY_S, LAST_DELAY_S, SOUND_LIFE_S, RestartDelays


def test_restarts_wait_longer_and_longer_for_who_dies_at_once() -> None:
    delays = RestartDelays()
    assert delays.died(SOUND_LIFE_S * 100) == 0
    assert [delays.died(0.0) for _ in range(4)] == [FIRST_DELAY_S * 2**n for n in range(4)]
    assert [delays.died(1.0) for _ in range(20)][-1] == LAST_DELAY_S
    assert delays.died(SOUND_LIFE_S) == 0
    assert delays.died(1.0) == 0, "once is chance"
    assert delays.died(1.0) > 0
    assert delays.count == 28


def test_each_worker_has_sockets_of_the_same_port() -> None:
    bound = bind("localhost", 0, 3, 16)
    try:
        assert len(bound) == 3
        ports = {sock.getsockname()[1] for several in bound for sock in several}
        assert len(ports) == 1
        with pytest.raises(OSError, match="in use"):
            bind("127.0.0.1", ports.pop(), 2, 16)
    finally:
        for several in bound:
            for sock in several:
                sock.close()


def test_name_of_a_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
        assert name_of(sock) == f"unix:{tmp_path / 's'}"


def test_sockets_for_another_process_are_not_taken() -> None:
    assert inherited_sockets({}) == []
    assert inherited_sockets({"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid() + 1)}) == []
    assert inherited_sockets({"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())}) == []


def test_watchdog_of_another_process_is_not_fed() -> None:
    assert Notifier({"WATCHDOG_USEC": "3000000"}).watchdog_s == 3.0
    assert Notifier({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid() + 1)}).watchdog_s is None
    assert Notifier({}).watchdog_s is None
    Notifier({"NOTIFY_SOCKET": "/nowhere/at/all"}).ready("nobody hears it, and nothing fails")


def test_where_the_runtime_directory_lies() -> None:
    assert runtime_dir.base(Path("/a"), {"RUNTIME_DIRECTORY": "/b"}) == Path("/a")
    assert runtime_dir.base(None, {"RUNTIME_DIRECTORY": "/b:/c", "XDG_RUNTIME_DIR": "/d"}) == Path("/b")
    assert runtime_dir.base(None, {"XDG_RUNTIME_DIR": "/d"}) == Path("/d/tidegate")
    assert runtime_dir.base(None, {}).name == f"tidegate-{os.geteuid()}"


@pytest.mark.parametrize("fault", ["file", "link", "long"])
def test_runtime_directory_that_cannot_be_used(tmp_path: Path, fault: str) -> None:
    folder = tmp_path / ("x" * 120 if fault == "long" else "run")
    if fault == "file":
        folder.touch()
    elif fault == "link":
        folder.symlink_to(tmp_path)
    with pytest.raises(runtime_dir.RuntimeDirError):
        runtime_dir.create(folder)


def test_sums_keep_what_ended_workers_have_done() -> None:
    first = {"opened": 3, "sessions": 2, "cpu_s": 1.5, "refused": {"a": 1}, "forwarded": {"relayed": 2}}
    ended = report.add({}, first, levels=False)
    assert ended["opened"] == 3
    assert "sessions" not in ended
    total = report.add(ended, {"opened": 1, "sessions": 1, "refused": {"a": 1, "b": 1}}, levels=True)
    assert (total["opened"], total["sessions"], total["cpu_s"]) == (4, 1, 1.5)
    assert (total["refused"], total["forwarded"]) == ({"a": 2, "b": 1}, {"relayed": 2})
