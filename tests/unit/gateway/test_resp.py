"""What Redis sends, as values: the quick way for nearly all of it, compiled and in Python, and the thorough one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.brokers import resp
from gateway.brokers.resp import Oversized, RespError, RespReader, encode_command
from transports.accelerator import accelerator

needs_accelerator = pytest.mark.skipif(accelerator is None, reason="the accelerator was not built, or is switched off")

Scan = Callable[[bytes, int, int, bytes, list[Any]], int]
SCANS = [
    pytest.param(resp.scan_values, id="python"),
    pytest.param(getattr(accelerator, "scan_values", None), id="compiled", marks=needs_accelerator),
]
LIMIT = 1000


def scanned(
    scan: Scan, data: bytes, start: int = 0, left_out: bytes = b"", limit: int = LIMIT
) -> tuple[int, list[Any]]:
    values: list[Any] = []
    return scan(data, start, limit, left_out, values), values


def message(body: bytes, kind: bytes = b"message", channel: bytes = b"room") -> bytes:
    return encode_command(kind, channel, body)


@pytest.mark.parametrize("scan", SCANS)
def test_integers_and_messages_are_read(scan: Scan) -> None:
    wire = b":0\r\n:12\r\n" + message(b"one\r\n") + message(b"", b"smessage", b"") + b":999999999999999999\r\n"
    expected = [0, 12, [b"message", b"room", b"one\r\n"], [b"smessage", b"", b""], 10**18 - 1]
    assert scanned(scan, wire) == (len(wire), expected)
    assert scanned(scan, b"+OK\r\n" + wire, start=5) == (len(wire) + 5, expected)
    assert RespReader(LIMIT).feed(wire) == expected


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b":",
        b":1",
        b":1\r",
        b":\r\n",
        b":-1\r\n",
        b":1x\r\n",
        b":1000000000000000000\r\n",
        b"+OK\r\n",
        b"$3\r\nabc\r\n",
        b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
        b"*4\r\n$8\r\npmessage\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n",
        b"*3\r\n$7\r\nmessage\r\n$-1\r\n$1\r\nc\r\n",
        b"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n:1\r\n",
        message(b"x" * (LIMIT + 1)),
        message(b"x", channel=b"c" * (LIMIT + 1)),
        *[message(b"whole")[:size] for size in range(1, len(message(b"whole")))],
    ],
)
def test_what_is_another_value_or_not_whole_is_left(scan: Scan, rest: bytes) -> None:
    assert scanned(scan, b":7\r\n" + rest) == (4, [7])


@pytest.mark.parametrize("scan", SCANS)
def test_messages_that_begin_so_are_left_out(scan: Scan) -> None:
    wire = message(b"mine: a") + message(b"yours: b") + message(b"mine") + message(b"mine: ") + b":1\r\n"
    left = [[b"message", b"room", b"yours: b"], [b"message", b"room", b"mine"], 1]
    assert scanned(scan, wire, left_out=b"mine: ") == (len(wire), left)


@needs_accelerator
@given(
    st.lists(
        st.one_of(
            st.builds(message, st.binary(max_size=20), st.sampled_from([b"message", b"smessage", b"other"])),
            st.integers(-5, 2**70).map(lambda number: b":%d\r\n" % number),
            st.sampled_from([b"*3\r\n$7\r\nmessage\r\n$", b"$", b"\r\n", b":", b"5\r\n", b"+OK\r\n"]),
        ),
        max_size=6,
    ).map(b"".join),
    st.integers(0, 30),
    st.sampled_from([b"", b"\0", b"a"]),
    st.sampled_from([0, 5, LIMIT]),
)
def test_twins_do_the_same(data: bytes, start: int, left_out: bytes, limit: int) -> None:
    assert accelerator is not None
    twin = scanned(resp.scan_values, data, min(start, len(data)), left_out, limit)
    assert scanned(accelerator.scan_values, data, min(start, len(data)), left_out, limit) == twin


@needs_accelerator
@pytest.mark.parametrize(
    "arguments", [(), ("", 0, 1, b"", []), (b"", 0, 1, "", []), (b"", 0, 1, b"", ()), (b"", "", 1, b"", [])]
)
def test_wrong_arguments_are_type_errors(arguments: tuple[Any, ...]) -> None:
    assert accelerator is not None
    with pytest.raises(TypeError):
        accelerator.scan_values(*arguments)


def test_reader_reads_the_same_whole_and_byte_by_byte() -> None:
    rest = encode_command("subscribe", "a") + b"-OOM no room\r\n" + message(b"x" * 2000) + message(b"y")
    wire = message(b"one") + b":1\r\n" + rest + b":-3\r\n*-1\r\n+OK\r\n"
    whole, cut = RespReader(LIMIT), RespReader(LIMIT)
    values = whole.feed(wire)
    by_byte = [value for byte in wire for value in cut.feed(bytes([byte]))]
    assert [describe(value) for value in values] == [describe(value) for value in by_byte]
    assert [describe(value) for value in values] == [
        [b"message", b"room", b"one"],
        1,
        [b"subscribe", b"a"],
        "OOM no room",
        [b"message", b"room", "2000 bytes"],
        [b"message", b"room", b"y"],
        -3,
        None,
        b"OK",
    ]


def describe(value: Any) -> Any:
    if isinstance(value, Oversized):
        return f"{value.nbytes} bytes"
    if isinstance(value, RespError):
        return str(value)
    return [describe(item) for item in value] if isinstance(value, list) else value
