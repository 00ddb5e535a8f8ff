"""Where the workers of other hosts are to be found."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import NamedTuple, Protocol

from ..session_ids import is_worker_id

logger = logging.getLogger("tidegate.cluster")


class Address(NamedTuple):
    """Of a host's internal listener."""

    host: str
    port: int


class Registry(Protocol):
    """Which host a worker lives on.

    Asked on the event loop for each request of a session that no worker of this host owns, so an implementation
    answers from what it has at hand, and keeps that up to date by itself. It forgets a worker when that has ended, or
    its lease has: its clients are told at once that their session is unknown, and come back with a new one.
    """

    def locate(self, worker_id: str) -> Address | None:
        """The internal address of the host that the worker lives on; None where there is no such worker."""


class FileRegistry:
    """A JSON file, ``{"worker id": "host:port", …}``, read again when it has changed.

    While it cannot be read, or holds something else, the last that could be is in use, and the log says so.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_of: tuple[int, int] | None = None
        self._addresses: dict[str, Address] = {}

    def locate(self, worker_id: str) -> Address | None:
        try:
            status = os.stat(self._path)
            version = (status.st_mtime_ns, status.st_ino)
            if version != self._read_of:
                self._read_of = version
                self._addresses = _parse(self._path.read_text())
        except (OSError, ValueError) as error:
            logger.warning("the registry %s cannot be used: %s", self._path, error)
        return self._addresses.get(worker_id)


def parse_address(text: str) -> Address:
    """Of ``host:port``, an IPv6 address in brackets. Raises: ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 <= int(port) <= 65535:
        raise ValueError(f"{text!r} is not host:port")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def _parse(text: str) -> dict[str, Address]:
    """Raises: ValueError."""
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - said of a file's content
    found = {}
    for worker_id, address in content.items():
        if not is_worker_id(worker_id) or not isinstance(address, str):
            raise ValueError(f"{worker_id!r} is no worker's id with an address")
        found[worker_id] = parse_address(address)
    return found
