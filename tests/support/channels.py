"""A server whose application offers channels, for the clients of ``client_js``.

    python -m tests.support.channels [--listener fast|aiohttp] [--options JSON] [--loop uvloop|asyncio]

is like ``tests.support.apps``; with the option ``"channels": false`` it has none. ``/page`` is an empty one,
``/pages/...`` are the files in ``client_js/build/pages``.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

import gateway

from . import apps
from .servers import ROOT

PAGES = ROOT / "client_js" / "build" / "pages"
#: Publications that a channel keeps.
KEPT = 100

Handler = Callable[..., Awaitable[Any]]


@dataclass
class Stream:
    """``publications``: the latest, oldest first."""

    offset: int = 0
    epoch: str = field(default_factory=lambda: secrets.token_hex(4))
    publications: list[dict[str, Any]] = field(default_factory=list)

    @property
    def position(self) -> dict[str, Any]:
        return {"offset": self.offset, "epoch": self.epoch}

    def add(self, channel: str, data: Any) -> dict[str, Any]:
        self.offset += 1
        publication = {"channel": channel, "offset": self.offset, "data": data}
        self.publications = [*self.publications, publication][-KEPT:]
        return publication

    def after(self, since: dict[str, Any] | None) -> list[dict[str, Any]]:
        return [each for each in self.publications if since is None or each["offset"] > since["offset"]]

    def is_whole_after(self, since: dict[str, Any]) -> bool:
        return since["epoch"] == self.epoch and since["offset"] >= self.offset - len(self.publications)


class Channels:
    """The events of channels, and some of an application."""

    def __init__(self, server: gateway.Server, *, has_channels: bool) -> None:
        self.server = server
        self.streams: dict[str, Stream] = {}
        self.subscribers: dict[str, list[str]] = {}
        self.clients: set[str] = set()
        self.tokens: dict[str, str | None] = {}
        self.calls: Counter[str] = Counter()
        handlers: dict[str, Handler] = {
            "say": self.on_say,
            "stats": self.on_stats,
            "fail": self.on_fail,
            "drop_subscribers": self.on_drop_subscribers,
            "token": self.on_token,
        }
        if has_channels:
            for name in ("subscribe", "unsubscribe", "publish", "presence", "history"):
                handlers[f"channel:{name}"] = getattr(self, f"on_{name}")
        for event, handler in handlers.items():
            server.on(event, self._counted(event, handler))
        server.on("connect", self.on_connect)
        server.on("disconnect", self.on_disconnect)

    def _counted(self, event: str, handler: Handler) -> Handler:
        async def counted(sid: str, *args: Any) -> Any:
            self.calls[event] += 1
            return await handler(sid, *args)

        return counted

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: Any) -> None:
        if auth and auth.get("refuse"):
            raise gateway.ConnectionRefusedError("no entry", {"code": 7})
        self.clients.add(sid)
        self.tokens[sid] = (auth or {}).get("token")

    async def on_disconnect(self, sid: str, reason: str) -> None:
        self.clients.discard(sid)
        del self.tokens[sid]
        for channel in [name for name, sids in self.subscribers.items() if sid in sids]:
            await self.on_unsubscribe(sid, {"channel": channel})

    # -- the application -----------------------------------------------------------------------------------------------

    async def on_say(self, sid: str, *args: Any) -> int:
        await self.server.emit("said", args)
        return len(args)

    async def on_stats(self, sid: str) -> dict[str, Any]:
        return {"clients": len(self.clients), "subscribers": self.subscribers, "calls": dict(self.calls)}

    async def on_fail(self, sid: str) -> None:
        raise ValueError("asked to fail")

    async def on_drop_subscribers(self, sid: str, channel: str) -> None:
        """Ends the sessions below the subscribers of a channel, which come back."""
        for each in list(self.subscribers.get(channel, [])):
            await self.server.eio.disconnect(self.server.manager.eio_sid_from_sid(each, "/"))

    async def on_token(self, sid: str) -> str | None:
        return self.tokens.get(sid)

    # -- channels ------------------------------------------------------------------------------------------------------

    async def on_subscribe(self, sid: str, ask: dict[str, Any]) -> dict[str, Any]:
        channel, since = ask["channel"], ask.get("since")
        if channel.startswith("secret"):
            return {"error": {"message": "members only", "retry": "no"}}
        sids = self.subscribers.setdefault(channel, [])
        if sid not in sids:
            sids.append(sid)
            await self.server.emit("channel:join", {"channel": channel, "client": sid}, room=channel)
            await self.server.enter_room(sid, channel)
        stream = self.streams.setdefault(channel, Stream())
        if since is None:
            return stream.position
        if not stream.is_whole_after(since):
            return {**stream.position, "recovered": False}
        return {**stream.position, "recovered": True, "publications": stream.after(since)}

    async def on_unsubscribe(self, sid: str, ask: dict[str, Any]) -> dict[str, Any]:
        channel = ask["channel"]
        sids = self.subscribers.get(channel, [])
        if sid in sids:
            sids.remove(sid)
            if sid in self.clients:
                await self.server.leave_room(sid, channel)
            await self.server.emit("channel:leave", {"channel": channel, "client": sid}, room=channel)
        if not sids:
            self.subscribers.pop(channel, None)
        return {}

    async def on_publish(self, sid: str, ask: dict[str, Any]) -> dict[str, Any]:
        stream = self.streams.setdefault(ask["channel"], Stream())
        await self.server.emit("channel:publication", stream.add(ask["channel"], ask["data"]), room=ask["channel"])
        return stream.position

    async def on_presence(self, sid: str, ask: dict[str, Any]) -> dict[str, Any]:
        return {"subscribers": [{"client": each} for each in self.subscribers.get(ask["channel"], [])]}

    async def on_history(self, sid: str, ask: dict[str, Any]) -> dict[str, Any]:
        stream = self.streams.setdefault(ask["channel"], Stream())
        found = stream.after(ask.get("since"))
        if ask.get("reverse"):
            found.reverse()
        return {**stream.position, "publications": found[: ask.get("limit", KEPT)]}


async def page(request: web.Request) -> web.Response:
    return web.Response(text="<!DOCTYPE html><title>test</title>", content_type="text/html")


def create_app(options: dict[str, Any]) -> web.Application:
    has_channels = options.pop("channels", True)
    server = gateway.Server(**options)
    Channels(server, has_channels=has_channels)
    app = web.Application()
    server.attach(app)
    PAGES.mkdir(parents=True, exist_ok=True)
    app.router.add_static("/pages", PAGES)
    app.router.add_get("/page", page)
    return app


if __name__ == "__main__":
    apps.create_app = create_app
    apps.main()
