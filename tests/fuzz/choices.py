"""What a target takes from its input beside the bytes that are parsed: limits, cuts, which class."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")

#: As many cuts as this stand for one byte at a time.
EACH_BYTE = 7


class Choices:
    """Numbers taken from the end of the input, so that its beginning stays what the parser reads.

    An exhausted input gives zeros, and so the first of every list of options.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data

    def byte(self) -> int:
        if not self._data:
            return 0
        value = self._data[-1]
        self._data = self._data[:-1]
        return value

    def pick(self, options: Sequence[T]) -> T:
        return options[self.byte() % len(options)]

    def cuts(self) -> list[int]:
        """For ``pieces``; up to six places, or ``EACH_BYTE`` times anything for every place."""
        count = self.byte() % (EACH_BYTE + 1)
        if count == EACH_BYTE:
            return [0] * EACH_BYTE
        return [self.byte() << 8 | self.byte() for _ in range(count)]

    def rest(self) -> bytes:
        """The input without the choices made so far."""
        return self._data


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` cut where ``Choices.cuts`` says; some pieces may be empty."""
    if len(cuts) == EACH_BYTE:
        return [data[at : at + 1] for at in range(len(data))]
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in pairwise(places)]
