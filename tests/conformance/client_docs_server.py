"""The server that the snippets of docs/client*.md talk to, as ``tests.support.apps`` is run.

The namespaces ``/members`` and ``/account`` let in only who has the password, or the token.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from aiohttp import web

import gateway
from tests.support import apps


def create_app(options: dict[str, Any]) -> web.Application:
    server = gateway.Server(**options)
    lines: Counter[str] = Counter()

    @server.event
    async def say(sid: str, text: str) -> int:
        lines[sid] += 1
        await server.emit("said", {"n": lines[sid], "text": text}, to=sid)
        return lines[sid]

    @server.event
    async def think(sid: str) -> None:
        await asyncio.sleep(1)

    @server.event
    async def cursor(sid: str, at: dict[str, int]) -> None:
        pass

    @server.event
    async def ask_me(sid: str, question: int) -> Any:
        return await server.call("question", question, to=sid)

    @server.on("connect", namespace="/members")
    async def connect_member(sid: str, environ: dict[str, Any], auth: dict[str, Any] | None) -> None:
        if not auth or auth.get("password") != "right":
            raise gateway.ConnectionRefusedError("members only")

    @server.on("connect", namespace="/account")
    async def connect_account(sid: str, environ: dict[str, Any], auth: dict[str, Any] | None) -> None:
        if not auth or auth.get("token") != "good":
            raise gateway.ConnectionRefusedError("the token has expired")

    app = web.Application()
    server.attach(app)
    return app


if __name__ == "__main__":
    apps.create_app = create_app
    apps.main()
