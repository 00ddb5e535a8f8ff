"""Connections that go from process to process, over real sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.waiting import eventually
from transports.peers.handover import CHANNEL_GREETING, CLIENT, LINK, HandoverChannel, HandoverReceiver, peer_is_ours


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "sock"))
        sock.listen()
        yield sock


class Ends:
    """Both ends of a channel, and what has come of it."""

    def __init__(self, listening: socket.socket) -> None:
        self.came: list[tuple[bytes, int, bytes]] = []
        self.back: list[tuple[bytes, int, bytes]] = []
        self.is_gone = False
        self.channel = HandoverChannel(Path(listening.getsockname()), self._back, self._gone)
        self.sock, _ = listening.accept()
        assert self.sock.recv(1) == CHANNEL_GREETING
        assert peer_is_ours(self.sock)
        self.sock.setblocking(False)

    def receive(self) -> HandoverReceiver:
        return HandoverReceiver(self.sock, lambda *came: self.came.append(came), lambda _: None)

    def _back(self, kind: bytes, fd: int, data: bytes) -> None:
        self.back.append((kind, fd, data))

    def _gone(self) -> None:
        self.is_gone = True

    def close(self) -> None:
        self.channel.close()
        self.sock.close()
        for _, fd, _ in (*self.came, *self.back):
            os.close(fd)


@pytest.fixture
async def ends(listening: socket.socket) -> Callable[[], Ends]:
    return lambda: Ends(listening)


def pipe(text: bytes) -> int:
    """The reading end of a pipe that holds ``text``: what is read from a descriptor tells which one it is."""
    reading, writing = os.pipe()
    os.write(writing, text)
    os.close(writing)
    return reading


async def test_each_descriptor_comes_with_its_data(ends: Callable[[], Ends]) -> None:
    made = ends()
    receiver = made.receive()
    sizes = [0, 1, 70_000, 5, 300_000, 0, 200_000] * 20  # more than the socket's buffer holds
    for number, size in enumerate(sizes):
        made.channel.send(LINK if number % 2 else CLIENT, pipe(str(number).encode()), bytes([number]) * size)
    await eventually(lambda: len(made.came) == len(sizes))
    for number, (kind, fd, data) in enumerate(made.came):
        assert os.read(fd, 99) == str(number).encode()
        assert data == bytes([number]) * sizes[number]
        assert kind == (LINK if number % 2 else CLIENT)
    assert made.back == []
    receiver.close()
    made.close()


async def test_what_was_not_taken_comes_back(ends: Callable[[], Ends]) -> None:
    made = ends()
    count = 50
    for number in range(count):
        made.channel.send(CLIENT, pipe(str(number).encode()), b"x" * 50_000)
    made.sock.close()  # it dies without having read anything
    await eventually(lambda: made.is_gone)
    assert 0 < len(made.back) < count
    last = range(count - len(made.back), count)
    assert [os.read(fd, 99) for _, fd, _ in made.back] == [str(number).encode() for number in last]
    assert all(data == b"x" * 50_000 for _, _, data in made.back)
    made.close()


@pytest.mark.parametrize("size", [10, 50_000, 900_000])
async def test_nothing_is_lost_where_the_receiver_finishes(ends: Callable[[], Ends], size: int) -> None:
    made = ends()
    count = 50
    for number in range(count):
        made.channel.send(CLIENT, pipe(str(number).encode()), b"x" * size)
    receiver = made.receive()
    receiver.finish()
    await eventually(lambda: made.is_gone and made.sock.fileno() < 0, "both have ended")
    assert [int(os.read(fd, 99)) for _, fd, _ in (*made.came, *made.back)] == list(range(count))
    assert all(data == b"x" * size for _, _, data in (*made.came, *made.back))
    assert made.came
    assert bool(made.back) == (size > 10)
    made.close()


async def test_frames_without_descriptor_or_meaning_end_the_channel(ends: Callable[[], Ends]) -> None:
    for said in (b"C\0\0\0\1x", b"X\0\0\0\0", b"C\xff\xff\xff\xff"):
        made = ends()
        gone: list[HandoverReceiver] = []
        HandoverReceiver(made.channel._sock.dup(), lambda *_: None, gone.append)
        made.sock.send(said)
        await eventually(partial(bool, gone))
        made.close()


async def test_nobody_listens(tmp_path: Path, listening: socket.socket) -> None:
    with pytest.raises(FileNotFoundError):
        HandoverChannel(tmp_path / "none", lambda *_: None, lambda: None)
    listening.close()
    with pytest.raises(ConnectionRefusedError):
        HandoverChannel(tmp_path / "sock", lambda *_: None, lambda: None)
