"""Ids that cannot be guessed, drawn many at a time: a system call and an encoding for each would be a good part of
what a handshake costs.
"""

from __future__ import annotations

import os
from binascii import b2a_base64
from typing import Final

#: Of an id, which is 120 random bits.
_ID_BYTES: Final = 15
_ID_CHARACTERS: Final = 20
#: So many are drawn at once.
BATCH: Final = 64
#: Base64's letters as URLs carry them.
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")

_drawn: list[str] = []


def draw() -> str:
    """An id that nobody has had: 20 characters of which URLs, headers and JSON need escape none."""
    if not _drawn:
        text = b2a_base64(os.urandom(BATCH * _ID_BYTES), newline=False).translate(_URL_SAFE).decode("ascii")
        _drawn.extend([text[start : start + _ID_CHARACTERS] for start in range(0, len(text), _ID_CHARACTERS)])
    return _drawn.pop()


if hasattr(os, "register_at_fork"):
    # A child that went on with its parent's would give the same ids to its own clients.
    os.register_at_fork(after_in_child=_drawn.clear)
