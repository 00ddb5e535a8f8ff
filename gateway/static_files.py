"""The browser client, served beside the engine's path from files inside the package."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Final

from aiohttp import web

#: File in ``gateway/static`` by the name under which it is served. The Node server's names are kept.
FILES: Final = {
    "tidegate-client.min.js": "tidegate-client.min.js",
    "socket.io.js": "socket.io.min.js",
    "socket.io.min.js": "socket.io.min.js",
    "socket.io.msgpack.min.js": "socket.io.msgpack.min.js",
    "LICENSES.txt": "LICENSES.txt",
}
_TYPES: Final = {"js": "text/javascript", "txt": "text/plain"}


def attach(app: web.Application, path: str) -> None:
    """Serve the files below ``/path/``."""
    prefix = "/" + path.strip("/")
    for name, file in FILES.items():
        app.router.add_get(f"{prefix}/{name}", _handler(file))


def _handler(file: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    content: list[tuple[bytes, str]] = []

    async def serve(request: web.Request) -> web.Response:
        if not content:
            body = resources.files(__package__).joinpath("static", file).read_bytes()
            content.append((body, hashlib.sha256(body).hexdigest()[:20]))
        body, tag = content[0]
        headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        if tag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        response = web.Response(
            body=body, content_type=_TYPES[file.rpartition(".")[2]], charset="utf-8", headers=headers
        )
        response.enable_compression()
        return response

    return serve
