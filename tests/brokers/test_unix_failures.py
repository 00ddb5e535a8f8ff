"""What happens to workers of one host: killed, stopped, slow, strangers. Real processes and sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.brokers.base import BrokerConfigError, BrokerLimits, BrokerUnavailableError
from gateway.brokers.frames import encode_frame
from gateway.brokers.unix import UnixBroker
from gateway.envelope import Envelope, EnvelopeKind
from tests.support.servers import ROOT
from tests.support.waiting import eventually

from .conftest import LIMITS, nodes_of
from .recording import TestNode, numbered


class WorkerProcess:
    """``lines``: what it has said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            self.lines.append(line.decode().strip())

    async def id(self) -> str:
        found = await eventually(lambda: [line for line in self.lines if line.startswith("id ")], "its id", 20)
        return str(found[0]).split()[1]

    def messages(self) -> list[str]:
        return [line.split(maxsplit=1)[1] for line in self.lines if line.startswith("message ")]

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self._reading


@contextlib.asynccontextmanager
async def worker(directory: Path, topic: str = "room") -> AsyncIterator[WorkerProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.brokers.worker", str(directory), topic, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    started = WorkerProcess(process)
    try:
        yield started
    finally:
        await started.end()


@contextlib.asynccontextmanager
async def node_in(directory: Path, limits: BrokerLimits = LIMITS) -> AsyncIterator[TestNode]:
    async with nodes_of(lambda node, seen, chosen: UnixBroker(directory, node, seen.callbacks(), chosen)) as start:
        yield (await start(1, limits))[0]


async def test_killed_worker_is_noticed_at_once_and_its_socket_removed(tmp_path: Path) -> None:
    directory = tmp_path / "bus"
    long_lease = BrokerLimits(lease_s=1000)
    async with node_in(directory, long_lease) as one, worker(directory) as other:
        other_id = await other.id()
        await eventually(lambda: other_id in one.broker.nodes(), "the worker")
        await one.broker.publish("room", b"1")
        await eventually(lambda: other.messages() == ["1"], "the message")
        other.signal(signal.SIGKILL)
        await eventually(lambda: one.seen.left == [other_id], "its end")
        await one.broker.publish("room", b"2")
        await eventually(lambda: not (directory / f"{other_id}.bus").exists(), "its socket to be removed")
        assert one.broker.health.is_ready
        assert one.broker.counters.dropped == {}


async def test_request_does_not_wait_for_a_worker_that_dies(tmp_path: Path) -> None:
    directory = tmp_path / "bus"
    async with node_in(directory, BrokerLimits(lease_s=1000)) as one, worker(directory) as other:
        other_id = await other.id()
        await eventually(lambda: other_id in one.broker.nodes(), "the worker")
        other.signal(signal.SIGSTOP)
        asking = asyncio.create_task(one.broker.request(b"", timeout_s=1000))
        await asyncio.sleep(0)
        other.signal(signal.SIGKILL)
        answers = await asyncio.wait_for(asking, 20)
        assert answers.missing == (other_id,)


async def test_stopped_worker_loses_its_lease_and_no_message(tmp_path: Path) -> None:
    directory = tmp_path / "bus"
    async with node_in(directory, BrokerLimits(lease_s=0.6)) as one, worker(directory) as other:
        other_id = await other.id()
        await eventually(lambda: other_id in one.broker.nodes(), "the worker")
        other.signal(signal.SIGSTOP)
        for payload in numbered(500):
            await one.broker.publish("room", payload)
        await eventually(lambda: other_id not in one.broker.nodes(), "its lease to run out")
        answers = await one.broker.request(b"", timeout_s=0.2)
        assert other_id in (*answers.missing, *answers.answered)
        other.signal(signal.SIGCONT)
        await eventually(lambda: other_id in one.broker.nodes(), "it to be back")
        await eventually(lambda: len(other.messages()) >= 500, "all messages")
        assert other.messages() == [payload.decode() for payload in numbered(500)]
        assert not [line for line in other.lines if line.startswith("gap")]


async def test_worker_that_does_not_read_is_cut_off_and_told(tmp_path: Path) -> None:
    directory = tmp_path / "bus"
    limits = BrokerLimits(lease_s=1000, publish_timeout_s=0.5, max_message_bytes=50_000, max_outbox_bytes=300_000)
    async with node_in(directory, limits) as one, worker(directory) as other:
        other_id = await other.id()
        await eventually(lambda: other_id in one.broker.nodes(), "the worker")
        other.signal(signal.SIGSTOP)
        taken = 0

        async def publish_until_refused() -> None:
            nonlocal taken
            while taken < 1000:
                await one.broker.publish("room", b"%04d" % taken + bytes(40_000))
                taken += 1
                assert one.broker.health.outbox_bytes <= limits.max_outbox_bytes

        with pytest.raises(BrokerUnavailableError) as failed:
            await publish_until_refused()
        assert "cut off" in str(failed.value)
        assert other_id not in one.broker.nodes()
        assert one.broker.counters.dropped["stalled"] > 0
        other.signal(signal.SIGCONT)
        await eventually(lambda: other_id in one.broker.nodes(), "it to be back", 20)
        await one.broker.publish("room", b"after")
        await eventually(lambda: "after" in other.messages(), "what came after", 20)
        *before, last = [text[:5].rstrip("\0") for text in other.messages()]
        assert last == "after"
        assert before == [f"{number:04d}" for number in range(len(before))], "the beginning, in order"
        assert len(before) + one.broker.counters.dropped["stalled"] <= taken + 1
        assert f"gap {one.id}" in other.lines


@pytest.mark.parametrize("when_down", ["fail", "drop"])
async def test_full_outbox_follows_the_policy(tmp_path: Path, when_down: str) -> None:
    directory = tmp_path / "bus"
    limits = BrokerLimits(lease_s=1000, max_message_bytes=50_000, max_outbox_bytes=300_000)
    async with node_in(directory, limits) as one, worker(directory) as other:
        other_id = await other.id()
        await eventually(lambda: other_id in one.broker.nodes(), "the worker")
        other.signal(signal.SIGSTOP)
        refused = 0
        for number in range(60):
            try:
                await one.broker.publish("room", b"%04d" % number + bytes(40_000), when_down=when_down)  # type: ignore[arg-type]
            except BrokerUnavailableError:
                refused += 1
        dropped = one.broker.counters.dropped["full"]
        assert dropped > 0
        assert refused == (dropped if when_down == "fail" else 0)
        other.signal(signal.SIGCONT)
        await eventually(lambda: len(other.messages()) == 60 - dropped, "what was taken")
        assert one.broker.counters.published == 60 - dropped


async def test_directory_that_others_can_read_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "bus"
    directory.mkdir(mode=0o755)
    with pytest.raises(BrokerConfigError, match="0700, not 0755"):
        await UnixBroker(directory).start()


async def test_path_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokerConfigError, match="107 bytes"):
        await UnixBroker(tmp_path / ("d" * 100)).start()


async def test_sockets_of_the_dead_are_removed_and_other_files_left(tmp_path: Path) -> None:
    directory = tmp_path / "bus"
    directory.mkdir(mode=0o700)
    dead = directory / "dead.bus"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(dead))
    other = directory / "notes.txt"
    other.write_text("mine")
    async with node_in(directory) as one:
        await eventually(lambda: not dead.exists(), "it to be removed")
        assert other.exists()
        assert stat_mode(directory) == 0o700
        assert one.broker.nodes() == {}


def stat_mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 64,
        b"GET / HTTP/1.1\r\n\r\n",
        encode_frame((), b"not an envelope"),
        encode_frame((), Envelope(EnvelopeKind.PUBLICATION, "x").encode()),
        encode_frame((), Envelope(EnvelopeKind.HELLO, "x", body=b"\xc0").encode()),
        encode_frame((), Envelope(EnvelopeKind.HELLO, "x", body=b"\x92\xa1y\x80").encode()),
    ],
    ids=["noise", "http", "no-envelope", "no-hello", "no-node", "another-name"],
)
async def test_stranger_at_the_socket_harms_nobody(tmp_path: Path, data: bytes) -> None:
    directory = tmp_path / "bus"
    async with node_in(directory) as one, node_in(directory) as two:
        await two.subscribe("room")
        reader, writer = await asyncio.open_unix_connection(str(directory / f"{two.id}.bus"))
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await one.broker.publish("room", b"1")
        await two.got([b"1"])
        assert two.broker.nodes().keys() == {one.id}


async def test_worker_finds_the_directory_gone(tmp_path: Path) -> None:
    directory = tmp_path / "bus"
    async with node_in(directory, BrokerLimits(lease_s=0.6)) as one:
        (directory / f"{one.id}.bus").unlink()
        await one.is_not_ready()
        assert "is gone" in one.broker.health.reason


async def test_four_workers_that_start_together_all_hear_each_other(tmp_path: Path) -> None:
    directory = tmp_path / "bus"
    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(worker(directory)) for _ in range(4)]
        ids = [await each.id() for each in workers]
        for each, own in zip(workers, ids, strict=True):
            await eventually(
                lambda each=each, own=own: {f"joined {other}" for other in ids if other != own} <= set(each.lines),
                "all others",
            )
        one = await stack.enter_async_context(node_in(directory))
        await eventually(lambda: set(one.broker.nodes()) == set(ids), "all workers")
        for payload in numbered(200):
            await one.broker.publish("room", payload)
        for each in workers:
            await eventually(lambda each=each: len(each.messages()) >= 200, "all messages")
            assert each.messages() == [payload.decode() for payload in numbered(200)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_process_of_another_user_is_refused() -> None:
    with tempfile.TemporaryDirectory(prefix="tidegate-bus-") as directory:
        await _connect_as_somebody_else(Path(directory))


async def _connect_as_somebody_else(directory: Path) -> None:
    async with node_in(directory) as one:
        path = directory / f"{one.id}.bus"
        # Opened behind the broker's back: what counts in the end is who connects.
        directory.chmod(0o755)
        path.chmod(0o777)
        script = (
            "import os, socket, sys\n"
            "os.setuid(65534)\n"
            "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(20)\n"
            "print('refused' if s.recv(1) == b'' else 'served')"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, str(path), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert output.strip() == b"refused"
