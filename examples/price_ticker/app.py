"""The example: a market, one Socket.IO server, one page, and a slow line to look at it through.

python -m examples.price_ticker
"""

import argparse
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from aiohttp import web

import gateway

from .market import Market
from .slow_line import SlowLine

MARKET: web.AppKey[Market] = web.AppKey("market", Market)
SERVER: web.AppKey[gateway.Server] = web.AppKey("server", gateway.Server)

#: For which the server keeps the place of a page that is gone: half a minute of prices is some megabytes.
RECOVERY_S = 30.0

_STATIC = Path(__file__).parent / "static"
_ASSETS = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/ticker.css": ("ticker.css", "text/css; charset=utf-8"),
    "/ticker.js": ("ticker.js", "text/javascript; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def create_app(changes_per_s: float = 20.0) -> web.Application:
    """An application whose prices change so often, each."""
    app = web.Application()
    server = app[SERVER] = gateway.Server(recovery_s=RECOVERY_S)
    server.attach(app)
    market = app[MARKET] = Market(server, changes_per_s)
    app.cleanup_ctx.append(market.running)
    app.router.add_get("/clock", _tell_time)
    for path, (name, content_type) in _ASSETS.items():
        app.router.add_get(path, _serve(_STATIC / name, content_type))
    return app


async def _tell_time(request: web.Request) -> web.Response:
    """For the ages on the page: its own clock may be another."""
    return web.json_response({"t": time.time()}, headers=_HEADERS)


def _serve(path: Path, content_type: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def serve(request: web.Request) -> web.StreamResponse:
        return web.FileResponse(path, headers={**_HEADERS, "Content-Type": content_type})

    return serve


def _positive(value: str) -> float:
    with contextlib.suppress(ValueError):
        number = float(value)
        if 0 < number <= 1_000_000:
            return number
    raise argparse.ArgumentTypeError(f"a number above 0, at most 1000000, not {value}")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.price_ticker",
        description="Prices that change faster than a slow line can carry them.",
    )
    parser.add_argument("--changes", type=_positive, default=20.0, metavar="N", help="of each price, per second")
    parser.add_argument("--line", type=_positive, default=16.0, metavar="KB/S", help="speed of the slow line")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen")
    parser.add_argument("--port", type=int, default=8000, help="where to listen")
    parser.add_argument("--slow-port", type=int, default=8001, help="where the slow line begins")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    app = create_app(options.changes)
    line = SlowLine(options.host, options.port, options.line * 1000)

    async def slow_line(app: web.Application) -> AsyncIterator[None]:
        async with line.listening(options.host, options.slow_port):
            yield

    app.cleanup_ctx.append(slow_line)
    print(f"Open http://{options.host}:{options.port}/")
    print(f"and, over a line of {options.line:g} KB/s, http://{options.host}:{options.slow_port}/")
    gateway.run_app(app, host=options.host, port=options.port)
