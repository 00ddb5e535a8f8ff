"""Handshake requests, as handlers know them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from transports.engine import Engine

from .members import Member


def environ_of(member: Member) -> dict[str, Any]:
    """The handshake request of a client; where recovery is on, ``tidegate.recovered`` says whether it was recovered."""
    environ = member.session.request.environ()
    if member.place is not None:
        environ["tidegate.recovered"] = member.place.is_recovered
    return environ


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
