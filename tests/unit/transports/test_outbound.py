"""Messages on their way out, and the runs that sessions share."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.transports.engine_doubles import binary, server_frames, text
from transports.outbound import MESSAGE_OVERHEAD_BYTES, DeflateForm, OutboundMessage, Run, extend
from transports.protocol.frames import BINARY, COMPRESSED, TEXT
from transports.protocol.permessage_deflate import inflate


def packets(run: Run | None) -> Iterator[bytes]:
    for message in [] if run is None else run.messages():
        if message.text is not None:
            yield message.text
        yield from message.attachments


def test_message_has_all_its_wire_forms() -> None:
    message = OutboundMessage(b'451-["a"]', [b"\x01\x02", b""])
    assert server_frames(message.frames) == [(1, '451-["a"]'), (2, b"\x01\x02"), (2, b"")]
    assert message.records == b'451-["a"]\x1ebAQI=\x1eb\x1e'
    assert message.packet_count == 3
    assert message.nbytes == MESSAGE_OVERHEAD_BYTES + 9 + 2


def test_binary_message_needs_no_text() -> None:
    message = binary(b"\x00")
    assert server_frames(message.frames) == [(2, b"\x00")]
    assert message.records == b"bAA==\x1e"
    assert message.packet_count == 1


def test_wire_forms_are_built_once() -> None:
    message = OutboundMessage(b"4x", [b"y"])
    assert message.frames is message.frames
    assert message.records is message.records
    run = extend(extend(None, message), text("4z"))
    assert run.frames is run.frames
    assert run.records is run.records
    assert run.chunk is run.chunk
    assert extend(None, message).frames is message.frames, "a run of one message has nothing to join"


def test_run_is_its_messages_in_order() -> None:
    messages = [text("4a"), binary(b"b"), text("4c")]
    run = Run.of(messages)
    assert run is not None
    assert run.messages() == messages
    assert run.packet_count == 3
    assert run.nbytes == sum(message.nbytes for message in messages)
    assert server_frames(run.frames) == [(1, "4a"), (2, b"b"), (1, "4c")]
    assert run.records == b"4a\x1ebYg==\x1e4c\x1e"
    assert run.payload() == b"4a\x1ebYg==\x1e4c"
    assert run.chunk == b"c\r\n" + run.records + b"\r\n"
    assert Run.of([]) is None


def test_longer_run_leaves_the_shorter_as_it_is() -> None:
    short = extend(None, text("4a"))
    longer, other = extend(short, text("4b")), extend(short, text("4c"))
    assert list(packets(short)) == [b"4a"]
    assert list(packets(longer)) == [b"4a", b"4b"]
    assert list(packets(other)) == [b"4a", b"4c"]


def test_long_run_is_read_and_dropped_without_recursion() -> None:
    run = Run.of(text(f"4{number}") for number in range(50_000))
    assert run is not None
    assert len(run.messages()) == 50_000
    del run


def test_take_stops_at_whole_messages() -> None:
    messages = [text("4" + "x" * 99) for _ in range(4)]
    run = Run.of(messages)
    assert run is not None
    each = messages[0].nbytes
    for nbytes, count in ((-5, 1), (0, 1), (1, 1), (each, 1), (each + 1, 2), (each * 3, 3), (each * 9, 4)):
        taken, rest = run.take(nbytes)
        assert taken.messages() == messages[:count], nbytes
        assert ([] if rest is None else rest.messages()) == messages[count:], nbytes


_messages = st.lists(
    st.one_of(
        st.binary(max_size=4).map(binary),
        st.tuples(st.text("ab", max_size=4), st.lists(st.binary(max_size=4), max_size=4)).map(
            lambda parts: OutboundMessage(b"4" + parts[0].encode(), parts[1])
        ),
    ),
    min_size=1,
    max_size=6,
)


@given(_messages, st.integers(1, 30))
def test_split_divides_between_packets_and_loses_none(messages: list[OutboundMessage], count: int) -> None:
    run = Run.of(messages)
    assert run is not None
    every = list(packets(run))
    head, rest = run.split(count)
    assert list(packets(head)) == every[:count]
    assert list(packets(rest)) == every[count:]
    assert head.packet_count == len(every[:count])
    assert run.records == head.records + (b"" if rest is None else rest.records)
    assert run.frames == head.frames + (b"" if rest is None else rest.frames)


@given(_messages, st.integers(-10, 2000))
def test_take_loses_nothing(messages: list[OutboundMessage], nbytes: int) -> None:
    run = Run.of(messages)
    assert run is not None
    head, rest = run.take(nbytes)
    assert head.messages() + ([] if rest is None else rest.messages()) == messages


@pytest.mark.parametrize("count", [1, 2, 3])
def test_message_is_divided_between_its_packets(count: int) -> None:
    head, tail = OutboundMessage(b"4x", [b"1", b"2", b"3"]).divide(count)
    assert (head.text, list(head.attachments)) == (b"4x", [b"1", b"2", b"3"][: count - 1])
    assert (tail.text, list(tail.attachments)) == (None, [b"1", b"2", b"3"][count - 1 :])
    head, tail = OutboundMessage(None, [b"1", b"2", b"3", b"4"]).divide(count)
    assert (list(head.attachments), list(tail.attachments)) == (
        [b"1", b"2", b"3", b"4"][:count],
        [b"1", b"2", b"3", b"4"][count:],
    )


def inflated(frames: bytes) -> list[tuple[int, bytes]]:
    """Opcode and data of frames, and whether each was compressed."""
    found = []
    for opcode, data in server_frames(frames):
        raw = data.encode() if isinstance(data, str) else data
        found.append((opcode, inflate(raw, 1 << 20) if opcode & COMPRESSED else raw))
    return found


FORM = DeflateForm(15, 100)


def test_long_packets_are_compressed_each_and_short_ones_are_not() -> None:
    message = OutboundMessage(b"4" + b"x" * 200, [b"y" * 99, b"z" * 100])
    assert inflated(message.deflated_frames(FORM)) == [
        (TEXT | COMPRESSED, b"4" + b"x" * 200),
        (BINARY, b"y" * 99),
        (BINARY | COMPRESSED, b"z" * 100),
    ]
    assert len(message.deflated_frames(FORM)) < 150
    short = text("4short")
    assert short.deflated_frames(FORM) is short.frames


def test_what_does_not_shrink_goes_as_it_is() -> None:
    noise = random.Random(1).randbytes(500)
    message = binary(noise)
    assert message.deflated_frames(FORM) == message.frames


def test_compressed_form_is_built_once_and_shared() -> None:
    message = text("4" + "x" * 500)
    run, other = extend(None, message), extend(None, message)
    assert run.deflated_frames(FORM) is other.deflated_frames(DeflateForm(15, 100))
    longer = extend(run, text("4" + "y" * 500))
    assert longer.deflated_frames(FORM) is longer.deflated_frames(FORM)
    assert longer.deflated_frames(FORM).startswith(run.deflated_frames(FORM))
    small = DeflateForm(9, 100)
    assert inflated(longer.deflated_frames(small)) == inflated(longer.deflated_frames(FORM))
