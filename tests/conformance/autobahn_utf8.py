"""Section 6 of the Autobahn cases: text that is UTF-8, and text that only looks like it.

Groups 6.5 to 6.23 follow Markus Kuhn's stress test for decoders. Sequences are made by ``scheme``, which knows no
limits, and whether they are valid is said by the group, not by Python's decoder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.conformance.autobahn_cases import (
    BAD_TEXT,
    CONTINUATION,
    PING,
    TEXT,
    Case,
    Hear,
    Linger,
    case,
    fragments,
    frame,
    one_by_one,
    pong,
    text,
)

#: A Greek word, its accented letter as U+1F79, of three bytes.
_KOSME = bytes.fromhex("ce ba e1 bd b9 cf 83 ce bc ce b5")
_MIXED = "Hello-µ@ßöäüàá-UTF-8!!".encode()
#: Code points begin with the first two; the last is U+110000, one too many.
_TOO_HIGH = b"\xf4\x90\x80\x80"


def scheme(code: int, length: int) -> bytes:
    """``code`` in ``length`` bytes of UTF-8's scheme, whether that is allowed or not."""
    if length == 1:
        return bytes([code])
    lead = (0xFF << (8 - length)) & 0xFF
    tail = [0x80 | (code >> (6 * n)) & 0x3F for n in reversed(range(length - 1))]
    return bytes([lead | code >> (6 * (length - 1)), *tail])


def _first(length: int) -> int:
    """The lowest code point that needs ``length`` bytes."""
    return 0 if length == 1 else 0x80 if length == 2 else 1 << (5 * length - 4)


def _groups() -> Iterator[tuple[str, Sequence[tuple[bool, bytes]]]]:
    """Names of 6.5, 6.6 and so on, and their sequences with whether they are valid."""

    def good(*sequences: bytes) -> list[tuple[bool, bytes]]:
        return [(True, sequence) for sequence in sequences]

    def bad(*sequences: bytes) -> list[tuple[bool, bytes]]:
        return [(False, sequence) for sequence in sequences]

    yield "text", good(*(f"hello{char}world".encode() for char in "$¢€𤭢"), _KOSME)
    ends = {0}
    for char in _KOSME.decode():
        ends.add(max(ends) + len(char.encode()))
    yield "prefixes of a text", [(n in ends, _KOSME[:n]) for n in range(1, len(_KOSME) + 1)]
    yield "the first code of each length", good(*(scheme(_first(n), n) for n in (1, 2, 3, 4)))
    yield "the first code of 5 and 6 bytes", bad(*(scheme(_first(n), n) for n in (5, 6)))
    last = [scheme(_first(n + 1) - 1, n) for n in (1, 2, 3)]
    yield "the last code of each length", good(*last, scheme(0x10FFFF, 4))
    yield "the last code of 4, 5 and 6 bytes", bad(*(scheme(_first(n + 1) - 1, n) for n in (4, 5, 6)))
    bounds = [scheme(code, 3) for code in (0xD7FF, 0xE000, 0xFFFD)]
    yield "other bounds", [*good(*bounds, scheme(0x10FFFF, 4)), *bad(_TOO_HIGH)]
    runs = [(b"\x80\xbf" * 3)[:n] for n in range(2, 7)]
    yield "continuation bytes alone", bad(b"\x80", b"\xbf", *runs, bytes(range(0x80, 0xC0)))
    leads = [(0xC0, 0xE0), (0xE0, 0xF0), (0xF0, 0xF8), (0xF8, 0xFC), (0xFC, 0xFE)]
    yield "lead bytes alone", bad(*(b"".join(bytes([n, 0x20]) for n in range(*lead)) for lead in leads))
    cut = [scheme(0, n)[:-1] for n in range(2, 7)] + [scheme(_first(n + 1) - 1, n)[:-1] for n in range(2, 7)]
    yield "the last byte missing", bad(*cut)
    yield "such sequences joined", bad(b"".join(cut))
    yield "impossible bytes", bad(b"\xfe", b"\xff", b"\xfe\xfe\xff\xff")
    yield "an overlong slash", bad(*(scheme(0x2F, n) for n in range(2, 7)))
    yield "the longest overlong sequences", bad(*(scheme(_first(n) - 1, n) for n in range(2, 7)))
    yield "an overlong NUL", bad(*(scheme(0, n) for n in range(2, 7)))
    single = [scheme(code, 3) for code in (0xD800, 0xDB7F, 0xDB80, 0xDBFF, 0xDC00, 0xDF80, 0xDFFF)]
    yield "surrogates", bad(*single)
    yield "pairs of surrogates", bad(*(high + low for high in single[:4] for low in (single[4], single[6])))
    planes = [plane << 16 | low for plane in range(1, 17) for low in (0xFFFE, 0xFFFF)]
    nonchars = [scheme(0xFFFE, 3), scheme(0xFFFF, 3), *(scheme(code, 4) for code in planes)]
    yield "codes that are no characters", good(*nonchars)
    yield "specials", good(*(scheme(code, 3) for code in range(0xFFF9, 0x10000)))


def _fast_failure() -> Iterator[Case]:
    """6.4: text is broken in its middle. Strict is to fail at once, loose at the message's end."""
    broken = _KOSME + _TOO_HIGH + b"edited"
    start = len(_KOSME)
    for n, (second, third) in ((1, (start, start + 4)), (2, (start + 1, start + 2))):
        parts = [broken[:second], broken[second:third], broken[third:]]
        frames = [frame(CONTINUATION if k else TEXT, part, fin=k == 2) for k, part in enumerate(parts)]
        yield case(
            f"6.4.{n}",
            "the second of three fragments breaks the text",
            [frames[0], frame(PING, b"A"), Hear(1), frames[1], frame(PING, b"B"), Hear(2), frames[2]],
            [pong(b"A")],
            loosely=[[pong(b"A"), pong(b"B")]],
            **BAD_TEXT,
        )
    wire = frame(TEXT, broken)
    head = len(wire) - len(broken)
    for n, (second, third) in ((3, (start, start + 4)), (4, (start + 1, start + 2))):
        second, third = head + second, head + third
        yield case(
            f"6.4.{n}",
            "the second of three chops breaks the text",
            [wire[:second], Linger("A"), wire[second:third], Linger("B"), wire[third:]],
            [("waited", b"A")],
            loosely=[[("waited", b"A"), ("waited", b"B")]],
            **BAD_TEXT,
        )


def utf8() -> Iterator[Case]:
    yield case("6.1.1", "an empty text", [frame(TEXT)], [text(b"")])
    for n, middle in ((2, b""), (3, b"the middle")):
        parts = [frame(TEXT, fin=False), frame(CONTINUATION, middle, fin=False), frame(CONTINUATION)]
        yield case(f"6.1.{n}", "three fragments, two or all of them empty", one_by_one(parts), [text(middle)])
    yield case("6.2.1", "a text", [frame(TEXT, _MIXED)], [text(_MIXED)])
    middle_of = len("Hello-µ@ßöä".encode())
    halves = [frame(TEXT, _MIXED[:middle_of], fin=False), frame(CONTINUATION, _MIXED[middle_of:])]
    yield case("6.2.2", "a text cut between characters", one_by_one(halves), [text(_MIXED)])
    for n, data in ((3, _MIXED), (4, _KOSME)):
        yield case(f"6.2.{n}", "a text in fragments of one byte", fragments(TEXT, data, 1), [text(data)])
    broken = _KOSME + scheme(0xD800, 3) + b"edited"
    yield case("6.3.1", "a text with a surrogate", [frame(TEXT, broken)], **BAD_TEXT)
    yield case("6.3.2", "the same in fragments of one byte", fragments(TEXT, broken, 1), **BAD_TEXT)
    yield from _fast_failure()
    for group, (name, sequences) in enumerate(_groups(), 5):
        for n, (is_valid, data) in enumerate(sequences, 1):
            more = {} if is_valid else BAD_TEXT
            heard = [text(data)] if is_valid else []
            yield case(f"6.{group}.{n}", f"{name}: {data.hex(' ')}", [frame(TEXT, data)], heard, **more)
