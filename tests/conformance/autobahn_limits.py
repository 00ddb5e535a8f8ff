"""Sections 9, 12 and 13 of the Autobahn cases: large and many messages, plain and compressed.

In 9.3 to 9.6 some of the sizes are left out, and in 12 and 13 there are fewer messages of fewer kinds, for the
sake of time.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

from tests.conformance.autobahn_cases import (
    BINARY,
    TEXT,
    Case,
    Event,
    Hear,
    Message,
    Step,
    at_once,
    binary,
    case,
    fragments,
    frame,
    in_chops,
    text,
)

KIB, MIB = 1024, 1024 * 1024
_KINDS = ((TEXT, text, b"*"), (BINARY, binary, b"\xfe"))


def sizes() -> Iterator[Case]:
    for group, (opcode, kind, fill) in enumerate(_KINDS, 1):
        for n, size in enumerate([64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB], 1):
            data = fill * size
            yield case(f"9.{group}.{n}", f"a message of {size // KIB} KiB", [frame(opcode, data)], [kind(data)])
    for group, (opcode, kind, fill) in enumerate(_KINDS, 3):
        data = fill * (4 * MIB)
        for n, size in ((2, 256), (4, 4 * KIB), (6, 64 * KIB), (9, 4 * MIB)):
            wire = at_once(fragments(opcode, data, size))
            yield case(f"9.{group}.{n}", f"4 MiB in fragments of {size}", wire, [kind(data)])
    for group, (opcode, kind, fill) in enumerate(_KINDS, 5):
        data = fill * MIB
        for n, size in ((2, 128), (4, 512), (6, 2048)):
            chops = in_chops([frame(opcode, data)], size)
            yield case(f"9.{group}.{n}", f"1 MiB in chops of {size}", chops, [kind(data)])


def round_trips() -> Iterator[Case]:
    count = 1000
    for group, (opcode, kind, fill) in enumerate(_KINDS, 7):
        for n, size in enumerate([0, 16, 64, 256, 1024, 4096], 1):
            data = fill * size
            script: list[Step] = []
            for heard in range(1, count + 1):
                script += [frame(opcode, data), Hear(heard)]
            yield case(f"9.{group}.{n}", f"{count} round trips of {size} bytes", script, [kind(data)] * count)


#: Payload and fragment sizes, by the number in 12.x.n and 13.x.n.
_SIZES = {
    1: (16, 0),
    2: (64, 0),
    3: (256, 0),
    4: (1024, 0),
    5: (4096, 0),
    6: (8192, 0),
    7: (16384, 0),
    8: (32768, 0),
    9: (65536, 0),
    10: (131072, 0),
    11: (8192, 256),
    12: (16384, 256),
    13: (32768, 256),
    14: (65536, 256),
    15: (131072, 256),
    16: (131072, 1024),
    17: (131072, 4096),
    18: (131072, 32768),
}


def _json_data() -> bytes:
    rng = random.Random(12)
    rows = [
        {"id": n, "name": f"row {rng.randrange(1000)}", "at": rng.random(), "tags": ["zwölf", "€", "😀"]}
        for n in range(2000)
    ]
    return json.dumps(rows, ensure_ascii=True).encode()


def _picture() -> bytes:
    """A smooth gradient with noise: compresses a little."""
    rng = random.Random(13)
    return bytes((x * y // 256 + rng.randrange(8)) % 256 for y in range(256) for x in range(512))


def _messages(data: bytes, opcode: int, size: int, fragment: int, count: int) -> tuple[list[Step], list[Event]]:
    twice = data * (2 + size // len(data))
    parts = [twice[start : start + size] for start in (n * size % len(data) for n in range(count))]
    kind = text if opcode == TEXT else binary
    return [Message(opcode, part, fragment) for part in parts], [kind(part) for part in parts]


def compressed() -> Iterator[Case]:
    for group, (opcode, data) in enumerate([(TEXT, _json_data()), (BINARY, _picture())], 1):
        for n, (size, fragment) in _SIZES.items():
            script, heard = _messages(data, opcode, size, fragment, 5 if size > 30_000 else 20)
            does = f"{len(script)} compressed messages of {size} bytes, in fragments of {fragment or size}"
            yield case(f"12.{group}.{n}", does, script, heard, offer="permessage-deflate; client_max_window_bits")


_OFFERS = [
    "permessage-deflate",
    "permessage-deflate; server_no_context_takeover",
    "permessage-deflate; server_max_window_bits=9",
    "permessage-deflate; server_max_window_bits=15",
    "permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
    "permessage-deflate; server_no_context_takeover; server_max_window_bits=15",
    ", ".join(
        (
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate",
        )
    ),
]


def compressed_with_parameters() -> Iterator[Case]:
    data = _json_data()
    for group, offer in enumerate(_OFFERS, 1):
        for n in (1, 4, 9, 14):
            size, fragment = _SIZES[n]
            script, heard = _messages(data, TEXT, size, fragment, 5)
            does = f"{len(script)} compressed messages of {size} bytes; {offer}"
            yield case(f"13.{group}.{n}", does, script, heard, offer=offer)
