"""The control socket of a supervisor: a line asks, a line of JSON answers.

Only processes of our user, or of root, are answered.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from transports.peers.handover import peer_is_ours

from . import runtime_dir

_TIMEOUT_S: Final = 5.0
_MAX_LINE: Final = 1024


class ControlServer:
    """``status`` gives what is answered to ``workers``."""

    def __init__(self, directory: Path, status: Callable[[], dict[str, Any]]) -> None:
        self._path = directory / runtime_dir.CONTROL
        self._status = status
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Raises: OSError."""
        self._server = await asyncio.start_unix_server(self._answer, path=str(self._path), limit=_MAX_LINE)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if peer_is_ours(writer.get_extra_info("socket")):
                async with asyncio.timeout(_TIMEOUT_S):
                    line = await reader.readline()
                known = line.strip() == b"workers"
                answer = self._status() if known else {"error": "ask for: workers"}
                if line:
                    writer.write(json.dumps(answer).encode() + b"\n")
                    await writer.drain()
        except (ConnectionError, TimeoutError, ValueError):
            pass  # whoever asked is gone, or asks nothing that is known
        finally:
            writer.close()


def ask(control: Path) -> dict[str, Any] | None:
    """The status of the supervisor behind a control socket; None where there is none any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_TIMEOUT_S)
        try:
            sock.connect(str(control))
            sock.sendall(b"workers\n")
            with sock.makefile("rb") as answers:
                line = answers.readline()
        except OSError:
            return None
    if not line.endswith(b"\n"):
        return None
    answer: dict[str, Any] = json.loads(line)
    return answer
