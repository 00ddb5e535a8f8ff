"""The compiled functions do what their twins in Python do."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.transports.engine_doubles import client_frame
from transports.accelerator import accelerator
from transports.protocol import frames
from transports.protocol.frames import BINARY, CLOSE, PING, TEXT

needs_accelerator = pytest.mark.skipif(accelerator is None, reason="the accelerator was not built, or is switched off")

Scan = Callable[[bytes, int, int, list[Any]], int]
SCANS = [
    pytest.param(frames.scan_frames, id="python"),
    pytest.param(getattr(accelerator, "scan_frames", None), id="compiled", marks=needs_accelerator),
]
LIMIT = 70_000


def scanned(scan: Scan, data: bytes, start: int = 0, limit: int = LIMIT) -> tuple[int, list[Any]]:
    messages: list[Any] = []
    return scan(data, start, limit, messages), messages


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 125, 126, 127, 65535, 65536, LIMIT])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_whole_frames_are_read(scan: Scan, opcode: int, size: int) -> None:
    payload: Any = "x" * size if opcode == TEXT else bytes(number % 256 for number in range(size))
    wire = client_frame(opcode, payload)
    assert scanned(scan, wire + wire) == (2 * len(wire), [(opcode, payload)] * 2)
    assert scanned(scan, wire[:-1]) == (0, [])
    assert scanned(scan, wire, limit=size - 1) == (0, [])


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("text", ["é", "a" * 7 + "ÿ", "€" * 50, "😀", "a\0b", "x" * 100 + "😀"])
def test_text_of_every_width_is_read(scan: Scan, text: str) -> None:
    assert scanned(scan, client_frame(TEXT, text))[1] == [(TEXT, text)]


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\x81",
        client_frame(TEXT, "a")[:5],
        client_frame(PING, b""),
        client_frame(CLOSE, b""),
        client_frame(TEXT, b"\xff\xfe"),
        client_frame(TEXT, b"\xed\xa0\x80"),
        client_frame(TEXT, b"a" * 20 + b"\xc0\x80"),
        b"\x81\x01a1234",
        b"\x81\xfe\x00\x05abcd12345",
        b"\x81\xff\0\0\0\0\0\0\0\x05abcd12345",
        b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xffabcd12345",
        b"\x82\xff\x80\0\0\0\0\0\0\0abcd12345",
        b"\xc1\x81abcd1",
        b"\x01\x81abcd1",
        b"\x00\x81abcd1",
    ],
)
def test_whatever_else_there_is_stays_for_the_parser(scan: Scan, wire: bytes) -> None:
    whole = client_frame(TEXT, "before")
    assert scanned(scan, whole + wire) == (len(whole), [(TEXT, "before")])
    assert scanned(scan, whole + wire, start=len(whole)) == (len(whole), [])


_wires = st.lists(
    st.builds(client_frame, st.sampled_from([TEXT, BINARY, PING]), st.text(max_size=20).map(str.encode))
    | st.builds(client_frame, st.just(TEXT), st.binary(max_size=200))
    | st.binary(max_size=20),
    max_size=5,
).map(b"".join)


@needs_accelerator
@given(data=_wires, limit=st.integers(0, 150), start=st.integers(0, 5))
def test_twins_agree_on_any_bytes(data: bytes, limit: int, start: int) -> None:
    assert accelerator is not None
    assert scanned(accelerator.scan_frames, data, start, limit) == scanned(frames.scan_frames, data, start, limit)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


@needs_accelerator
def test_send_says_how_much_the_socket_took(pair: tuple[socket.socket, socket.socket]) -> None:
    assert accelerator is not None
    ours, theirs = pair
    assert accelerator.send(ours.fileno(), b"hello") == 5
    assert theirs.recv(100) == b"hello"
    much = bytes(10_000_000)
    taken = accelerator.send(ours.fileno(), much)
    assert 0 < taken < len(much)
    assert accelerator.send(ours.fileno(), much) == 0, "the socket is full"


@needs_accelerator
def test_send_leaves_errors_to_whoever_writes_the_rest(pair: tuple[socket.socket, socket.socket]) -> None:
    """And no signal ends the process."""
    assert accelerator is not None
    ours, theirs = pair
    theirs.close()
    assert accelerator.send(ours.fileno(), b"hello") == 0


@needs_accelerator
def test_send_each_tells_of_those_that_did_not_take_all(pair: tuple[socket.socket, socket.socket]) -> None:
    assert accelerator is not None
    ours, theirs = pair
    data = b"x" * 100
    with socket.socketpair()[0] as other:
        while accelerator.send(ours.fileno(), data) == len(data):
            pass
        gone = accelerator.send_each([other.fileno(), ours.fileno(), other.fileno()], [data] * 3)
    assert [index for index, _ in gone] == [0, 1, 2], "the other pair's peer is closed, ours is full"
    assert accelerator.send_each([], []) == []
    theirs.setblocking(False)
    while True:
        try:
            theirs.recv(1 << 20)
        except BlockingIOError:
            break
    assert accelerator.send_each([ours.fileno(), ours.fileno()], [data, b"end"]) == []
    assert theirs.recv(1000) == data + b"end"


@needs_accelerator
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("scan_frames", ()),
        ("scan_frames", (bytearray(), 0, 0, [])),
        ("scan_frames", (b"", "0", 0, [])),
        ("scan_frames", (b"", 0, 0, ())),
        ("send", (1,)),
        ("send", ("1", b"")),
        ("send", (1, "text")),
        ("send_each", ((1,), [b""])),
        ("send_each", ([1], b"")),
        ("send_each", ([1], [])),
        ("send_each", ([1], [""])),
        ("send_each", (["1"], [b""])),
    ],
)
def test_wrong_arguments_are_type_errors(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        getattr(accelerator, name)(*arguments)


@needs_accelerator
def test_what_is_no_descriptor_is_a_value_error() -> None:
    assert accelerator is not None
    with pytest.raises(ValueError, match="file descriptor"):
        accelerator.send(-1, b"")
    with pytest.raises(ValueError, match="file descriptor"):
        accelerator.send_each([-1], [b""])


def test_it_can_be_switched_off() -> None:
    script = "from transports.accelerator import accelerator; print(accelerator)"
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": ":".join(sys.path), "TIDEGATE_PURE_PYTHON": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "None\n"
