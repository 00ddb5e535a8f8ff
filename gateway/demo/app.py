"""The demo's wiring: samples once a second, a chat, and the page that shows both.

It numbers what it sends and keeps its chat in this process, so it belongs to one worker.
"""

import asyncio
import dataclasses
import logging
import os
import platform
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
from aiohttp import web

import gateway
from gateway.demo.chat import Chat, ChatRefusedError
from gateway.demo.host_sampler import HostSample, HostSampler
from transports import reasons

logger = logging.getLogger(__name__)

REMEMBERED_SAMPLES = 60

_STATIC = Path(__file__).parent / "static"
_PAGE = "index.html"
_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS = {
    # A new release must show at the next visit; FileResponse answers 304 while nothing changed.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def install(server: "gateway.Server", app: web.Application, *, interval_s: float = 1.0) -> None:
    """Register the demo's handlers on `server`, its page on `app`, and sample while `app` runs."""
    demo = Demo(server, interval_s)
    server.on("connect", demo.connect)
    server.on("disconnect", demo.disconnect)
    server.on("chat", demo.chat)
    server.on("transport_in_use", demo.transport_in_use)
    server.on("cut", demo.cut)
    app.cleanup_ctx.append(demo.running)
    app.router.add_get("/", _serve(_STATIC / _PAGE))
    for asset in sorted(_STATIC.iterdir()):
        if asset.name != _PAGE and asset.suffix in _CONTENT_TYPES:
            app.router.add_get(f"/demo/{asset.name}", _serve(asset))


class Demo:
    """What the handlers share. Used from one event loop only."""

    def __init__(self, server: "gateway.Server", interval_s: float) -> None:
        self._server = server
        self._interval_s = interval_s
        self._epoch = secrets.token_hex(4)
        """Tells a page that comes back whether the numbers it remembers are still this server's."""
        self._last_n = 0
        self._history: deque[dict[str, object]] = deque(maxlen=REMEMBERED_SAMPLES)
        self._clients: set[str] = set()
        self._chat = Chat()

    async def connect(self, sid: str, environ: dict[str, object], auth: object = None) -> None:
        self._clients.add(sid)
        if self._server.recovered(sid):
            return  # it is sent what it has missed
        welcome = {
            "epoch": self._epoch,
            "n": self._last_n,
            "interval_s": self._interval_s,
            "history": list(self._history),
            "chat": [dataclasses.asdict(line) for line in self._chat.lines],
            "host": _describe_host(),
        }
        await self._server.emit("welcome", welcome, to=sid)

    async def disconnect(self, sid: str, reason: str = "") -> None:
        self._clients.discard(sid)
        self._chat.leave(sid)

    async def chat(self, sid: str, *arguments: object) -> dict[str, object]:
        payload = arguments[0] if len(arguments) == 1 else None
        try:
            line = self._chat.say(sid, payload, now=asyncio.get_running_loop().time(), t=time.time())
        except ChatRefusedError as refusal:
            return {"ok": False, "error": str(refusal)}
        await self._server.emit("chat", dataclasses.asdict(line))
        return {"ok": True, "id": line.id}

    async def transport_in_use(self, sid: str, *arguments: object) -> dict[str, object]:
        return {"transport": self._server.transport(sid)}

    async def cut(self, sid: str, *arguments: object) -> None:
        """Break the client's connection off as a network would: without a good-bye, so that it comes back."""
        member = self._server.manager.member(sid, None)
        if member is not None:
            member.session.close(reasons.TRANSPORT_CLOSE)

    async def running(self, app: web.Application) -> AsyncIterator[None]:
        sampling = asyncio.create_task(self._broadcast_samples(), name="demo samples")
        sampling.add_done_callback(_log_failure)
        yield
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)

    async def _broadcast_samples(self) -> None:
        loop = asyncio.get_running_loop()
        sampler = HostSampler(loop.time())
        due = loop.time() + self._interval_s
        while True:
            await asyncio.sleep(due - loop.time())
            # From the time that was due, so that the second does not drift; from now after a pause, so that
            # what was missed is not sent in a burst.
            due = max(due, loop.time() - self._interval_s) + self._interval_s
            try:
                sample = sampler.sample(loop.time())
            except (OSError, psutil.Error):
                logger.warning("the host could not be sampled", exc_info=True)
                continue
            self._last_n += 1
            wire_sample = self._on_the_wire(sample)
            self._history.append(wire_sample)
            await self._server.emit("sample", wire_sample)

    def _on_the_wire(self, sample: HostSample) -> dict[str, object]:
        return {
            "n": self._last_n,
            "t": round(time.time(), 3),
            "cpu": round(sample.cpu_pct, 1),
            "cores": [round(pct, 1) for pct in sample.core_pcts],
            "mem": {
                "total": sample.memory_total_bytes,
                "used": sample.memory_used_bytes,
                "pct": round(sample.memory_pct, 1),
            },
            "net": {
                "rx_bps": round(sample.received_bytes_per_s),
                "tx_bps": round(sample.sent_bytes_per_s),
            },
            "load": [round(load, 2) for load in sample.load],
            "clients": len(self._clients),
        }


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("the demo has stopped sampling", exc_info=error)


def _describe_host() -> dict[str, object]:
    """What may be told to strangers: no name, no address, no kernel release."""
    return {
        "cpus": os.cpu_count() or 1,
        "platform": f"{platform.system()} {platform.machine()}".strip(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def _serve(path: Path) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    headers = {**_HEADERS, "Content-Type": _CONTENT_TYPES[path.suffix]}

    async def serve(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(path, headers=headers)

    return serve
