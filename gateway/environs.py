"""Handshake requests, as handlers know them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from transports.engine import Engine


class Environs(Mapping[str, dict[str, Any]]):
    """Handshake requests by Engine.IO session id, as the dictionaries that handlers know; built when read."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getitem__(self, eio_sid: str) -> dict[str, Any]:
        return self._engine.sockets[eio_sid].request.environ()

    def __iter__(self) -> Iterator[str]:
        return iter(self._engine.sockets)

    def __len__(self) -> int:
        return len(self._engine.sockets)
