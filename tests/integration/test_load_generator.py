"""The load generator of the benchmarks, the C floors, and a profile of tidegate under that load.

``make -C benchmarks/load selftest`` goes through every fault; here is what a change to tidegate or to the benchmarks
could break: that it builds, counts right against both floors, and that a cell can be profiled.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks import measure, profilers, profiling
from benchmarks.peers import PEERS, Peer, running
from benchmarks.plan import CELLS
from tests.support.waiting import timeout_s

LOAD = Path(measure.__file__).parent / "load"
FAULTS = ("missing", "duplicate", "out_of_order", "stale", "stalled", "foreign", "errors", "disconnects")


def builds() -> bool:
    if not (shutil.which("cc") and shutil.which("make") and sys.platform == "linux" and shutil.which("taskset")):
        return False
    header = subprocess.run(["cc", "-E", "-"], input="#include <zlib.h>", text=True, capture_output=True, check=False)
    return header.returncode == 0


pytestmark = pytest.mark.skipif(not builds(), reason="needs Linux with a C compiler, make and zlib's headers")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("build")
    warned = ["CFLAGS=-O1 -Wall -Wextra -Werror"]
    subprocess.run(["make", "--silent", "-C", str(LOAD), f"OUT={folder}", *warned], check=True, timeout=timeout_s(60))
    return folder


@contextmanager
def floor(built: Path, *options: str) -> Iterator[tuple[int, dict[str, int]]]:
    """The port, and what the floor says of itself, filled in when it has ended."""
    said: dict[str, int] = {}
    core = measure.Cores.of_this_machine().server
    with running(Peer("floor", (str(built / "floor"),), dict), core, options) as server:
        yield server.port, said
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(timeout_s(5))
        said.update(json.loads(server.log.read_text()))


def load(built: Path, port: int, *options: str) -> dict[str, Any]:
    command = [str(built / "sioload"), "--port", str(port), "--warmup", "0.1", "--seconds", "0.3", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=timeout_s(30))
    counted: dict[str, Any] = json.loads(done.stdout)
    return counted


@pytest.mark.parametrize("coalesce", [False, True], ids=["send-per-delivery", "coalescing"])
def test_floors_lose_nothing_and_send_as_often_as_they_are_there_to_show(built: Path, *, coalesce: bool) -> None:
    with floor(built, *(["--coalesce"] if coalesce else [])) as (port, said):
        counted = load(built, port, "--mode", "broadcast", "--clients", "20", "--window", "8")
    assert {key: counted[key] for key in FAULTS} == dict.fromkeys(FAULTS, 0)
    assert said["deliveries"] == counted["published"] * 21 > 0
    if coalesce:
        assert said["sends"] < said["deliveries"]
    else:
        assert said["sends"] == said["deliveries"]


def test_floors_echo(built: Path) -> None:
    with floor(built) as (port, _):
        counted = load(built, port, "--mode", "echo", "--clients", "5", "--payload", "70000")
    assert counted["round_trips"] > 0
    assert (counted["unanswered"], counted["bad_payload"], counted["errors"]) == (0, 0, 0)


def test_tidegate_sends_compressed_records_and_every_byte_of_large_echoes_beside_them(built: Path) -> None:
    core = measure.Cores.of_this_machine().server
    broadcast = ["--mode", "broadcast", "--clients", "20", "--rows", "--payload", "2000"]
    with running(PEERS["tidegate"], core, ("--compression",)) as server:
        plain = load(built, server.port, *broadcast, "--side", "2", "--side-payload", "1048576")
        deflated = load(built, server.port, *broadcast, "--deflate")
    for counted in (plain, deflated):
        assert {key: counted[key] for key in FAULTS} == dict.fromkeys(FAULTS, 0)
    assert plain["side_round_trips"] > 0
    assert (plain["unanswered"], plain["bad_payload"]) == (0, 0)
    assert deflated["inflated"] == deflated["published"] * 21
    assert deflated["received_bytes_per_delivery"] < 1000


def test_a_cell_can_be_profiled(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiling, "SIOLOAD", built / "sioload")
    (cell,) = (cell for cell in CELLS if cell.name == "echo-100")
    profiler = profilers.CProfile(tmp_path)
    result = profiling.profile(cell, [profiler], 0.5)
    path, table = profiler.report("echo")
    assert result["round_trips"] > 0
    assert path.read_text().startswith("echo\n")
    assert "message_received" in table
