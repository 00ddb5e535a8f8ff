"""The Lua scripts that lie in ``lua/``; their first lines say what they take."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import ClassVar

from .resp import encode_arguments


class Script:
    """Called by its digest: every session loads all of them before it calls any."""

    ALL: ClassVar[list[Script]] = []

    def __init__(self, name: str) -> None:
        self.text = (files(__package__) / "lua" / f"{name}.lua").read_bytes()
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()
        self.ALL.append(self)

    def arguments(self, keys: Sequence[bytes], arguments: Sequence[bytes | str | int]) -> list[bytes | str | int]:
        return ["EVALSHA", self.digest, len(keys), *keys, *arguments]

    def head(self, *, keys: int, arguments: int) -> bytes:
        """With what a command begins that calls it: so many keys follow, and so many arguments."""
        return b"*%d\r\n" % (3 + keys + arguments) + encode_arguments("EVALSHA", self.digest, keys)


PUBLISH = Script("publish")
REGISTER = Script("register")
