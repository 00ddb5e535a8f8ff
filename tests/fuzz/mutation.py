"""Changed seeds without a fuzzing engine, and the change of scripts line by line for one that has coverage."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from .gateway_target import BREAK


def mutate(data: bytes, rng: random.Random, words: Sequence[bytes], others: Sequence[bytes], max_bytes: int) -> bytes:
    """One to four small changes: bytes, runs of bytes, words of the dictionary, parts of ``others``."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(changed))
        length = rng.choice((1, 1, 2, 4, rng.randint(0, len(changed) - at)))
        match rng.randrange(7):
            case 0:
                changed[at : at + 1] = bytes((rng.randrange(256),))
            case 1:
                del changed[at : at + length]
            case 2:
                changed[at:at] = changed[at : at + length]
            case 3 if words:
                changed[at:at] = rng.choice(words)
            case 4 if words:
                word = rng.choice(words)
                changed[at : at + len(word)] = word
            case 5 if others:
                other = rng.choice(others)
                start = rng.randint(0, len(other))
                changed[at : at + length] = other[start : start + rng.choice((1, 4, 16, 64))]
            case _:
                if at < len(changed):
                    changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed[:max_bytes])


def mutate_script(
    data: bytes, rng: random.Random, others: Sequence[bytes], max_bytes: int, change_line: Callable[[bytes], bytes]
) -> bytes:
    """Lines doubled, dropped, moved, taken from other scripts, given another connection, or changed inside."""
    body, options = data[:-1], data[-1:]
    lines = body.split(BREAK)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(lines))
        match rng.randrange(8):
            case 0:
                lines.insert(at, lines[rng.randrange(len(lines))])
            case 1 if len(lines) > 1:
                del lines[at]
            case 2:
                other = rng.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case 3 | 4 if others:
                taken = rng.choice(others)[:-1].split(BREAK)
                start = rng.randrange(len(taken))
                lines[at:at] = taken[start : start + rng.randint(1, 6)]
            case 5 if len(lines[at]) > 1:
                lines[at] = lines[at][:1] + b"%d" % rng.randrange(4) + lines[at][2:]
            case 6:
                options = bytes((rng.randrange(256),))
            case _:
                lines[at] = change_line(lines[at])
    return BREAK.join(lines)[: max_bytes - 1] + (options or b"\0")
