"""Ids that cannot be guessed, drawn many at a time: a system call and an encoding for each would be a good part of
what a handshake costs.

Where a session may be asked for at another worker than its own, its id begins with the id of the one that owns it.
"""

from __future__ import annotations

import os
import re
from binascii import b2a_base64
from typing import Final

#: Of an id, which is 120 random bits.
_ID_BYTES: Final = 15
_ID_CHARACTERS: Final = 20
#: So many are drawn at once.
BATCH: Final = 64
#: Base64's letters as URLs carry them.
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")

#: Of a worker's id: 35 random bits. Two of a thousand workers that live at the same time have the same with a
#: probability of 1.5 in 100,000.
WORKER_ID_CHARACTERS: Final = 7
_WORKER_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_OWNED: Final = re.compile(rf"([a-z2-7]{{{WORKER_ID_CHARACTERS}}})[A-Za-z0-9_-]{{{_ID_CHARACTERS}}}")

_drawn: list[str] = []


def draw() -> str:
    """An id that nobody has had: 20 characters of which URLs, headers and JSON need escape none."""
    if not _drawn:
        text = b2a_base64(os.urandom(BATCH * _ID_BYTES), newline=False).translate(_URL_SAFE).decode("ascii")
        _drawn.extend([text[start : start + _ID_CHARACTERS] for start in range(0, len(text), _ID_CHARACTERS)])
    return _drawn.pop()


def draw_worker_id() -> str:
    """An id for a worker, anew for each process: letters and digits that also stand in the name of a file."""
    return "".join([_WORKER_ALPHABET[byte & 31] for byte in os.urandom(WORKER_ID_CHARACTERS)])


def owner_of(session_id: str) -> str | None:
    """The id of the worker that a session's id names; None where it has not the form of one that does."""
    match = _OWNED.fullmatch(session_id)
    return None if match is None else match[1]


def is_worker_id(text: str) -> bool:
    """Whether ``text`` has the form of a worker's id."""
    return len(text) == WORKER_ID_CHARACTERS and not set(text) - set(_WORKER_ALPHABET)


if hasattr(os, "register_at_fork"):
    # A child that went on with its parent's would give the same ids to its own clients.
    os.register_at_fork(after_in_child=_drawn.clear)
