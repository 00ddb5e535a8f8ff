"""Running an aiohttp application behind the fast listener."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from os import PathLike
from ssl import SSLContext
from typing import Any

from aiohttp import web
from aiohttp.web_runner import BaseSite

from transports.hosts.aiohttp import attached_engines
from transports.hosts.listener import Listener
from transports.hosts.unsent import limit_unsent

from . import collector

logger = logging.getLogger("tidegate.runner")


class AppRunner(web.AppRunner):
    """An ``aiohttp.web.AppRunner`` whose sites listen with the fast listener.

    Use it and aiohttp's sites as you would use aiohttp's own. In an application without middlewares, requests to
    the path of a server that was attached to it reach the server directly; everything else is aiohttp's.
    """

    __slots__ = ("_listener",)

    def __init__(self, app: web.Application, **options: Any) -> None:
        super().__init__(app, **options)
        self._listener: Listener | None = None

    @property
    def server(self) -> Any:
        """What sites make connections with."""
        server = super().server
        if server is None:
            return None
        if self._listener is None:
            # Middlewares are to see every request of their application, so with them all go by way of aiohttp; a
            # WebSocket or a stream is taken over by the same lean protocol once they have let it pass.
            engines = {} if self.app.middlewares else attached_engines(self.app)
            self._listener = Listener(engines, server)
        return self._listener

    def limit_unsent(self) -> None:
        """Limit what the kernel holds unsent, for all connections that the started sites will accept.

        Without this, each WebSocket and stream does it for itself.
        """
        listening = [sock for site in self.sites for sock in getattr(site._server, "sockets", None) or ()]
        limited = [limit_unsent(sock) for sock in listening]
        if self._listener is not None:
            self._listener.inherits_unsent_limit = bool(limited) and all(limited)

    async def cleanup(self) -> None:
        """Stop listening, tell the clients, and end."""
        listener, self._listener = self._listener, None
        await super().cleanup()
        if listener is not None:
            listener.close()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _several(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, (str, PathLike, socket.socket)):
        return [value]
    return list(value)


def sites(
    runner: web.AppRunner,
    *,
    host: str | Iterable[str] | None = None,
    port: int | None = None,
    path: Any = None,
    sock: Any = None,
    ssl_context: SSLContext | None = None,
    backlog: int = 1024,
    reuse_address: bool | None = None,
    reuse_port: bool | None = None,
) -> list[BaseSite]:
    """The sites that these options of ``run_app`` describe, not yet started."""
    hosts: list[str | None] = _several(host)
    if not hosts and (port is not None or (path is None and sock is None)):
        hosts = [None]
    found: list[BaseSite] = [
        web.TCPSite(
            runner,
            name,
            port,
            ssl_context=ssl_context,
            backlog=backlog,
            reuse_address=reuse_address,
            reuse_port=reuse_port,
        )
        for name in hosts
    ]
    found += [web.UnixSite(runner, item, ssl_context=ssl_context, backlog=backlog) for item in _several(path)]
    found += [web.SockSite(runner, item, ssl_context=ssl_context, backlog=backlog) for item in _several(sock)]
    return found


@contextlib.asynccontextmanager
async def stop_signals() -> AsyncIterator[asyncio.Event]:
    """An event that SIGINT and SIGTERM set."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    caught = []
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, stopped.set)
        except (NotImplementedError, RuntimeError, ValueError):
            continue  # not in the main thread, or not on this platform: whoever owns the signals stops us
        caught.append(number)
    try:
        yield stopped
    finally:
        for number in caught:
            loop.remove_signal_handler(number)


async def run(
    app: web.Application | Awaitable[web.Application],
    *,
    print: Callable[..., None] | None = print,  # noqa: A002 - aiohttp's name
    handle_signals: bool = True,
    drain_timeout: float = 10.0,
    tune_collector: bool = False,
    host: str | Iterable[str] | None = None,
    port: int | None = None,
    path: Any = None,
    sock: Any = None,
    ssl_context: SSLContext | None = None,
    backlog: int = 1024,
    reuse_address: bool | None = None,
    reuse_port: bool | None = None,
    **runner_options: Any,
) -> None:
    """What ``run_app`` does, as a coroutine for those who own the loop. Ends on SIGINT, SIGTERM or cancellation.

    ``tune_collector``: make the cyclic collector of this process run rarely (``gateway.collector``).
    On the way out it stops accepting, drains every attached server for at most ``drain_timeout`` seconds, and
    cleans the application up.
    """
    application = await app if isinstance(app, Awaitable) else app
    runner_options.setdefault("shutdown_timeout", drain_timeout)
    runner = AppRunner(application, handle_signals=False, **runner_options)
    await runner.setup()
    engines = attached_engines(application)
    bursts = collector.BurstWatch(
        lambda: sum(engine.counters.opened for engine in engines.values()),
        lambda: sum(len(engine.sockets) for engine in engines.values()),
    )
    try:
        started = sites(
            runner,
            host=host,
            port=port,
            path=path,
            sock=sock,
            ssl_context=ssl_context,
            backlog=backlog,
            reuse_address=reuse_address,
            reuse_port=reuse_port,
        )
        for site in started:
            await site.start()
        runner.limit_unsent()
        if tune_collector:
            collector.tune()
            bursts.start()
        async with stop_signals() if handle_signals else contextlib.nullcontext(asyncio.Event()) as stopped:
            if print is not None:  # from now on it may be told to stop
                print(f"======== Running on {', '.join(sorted(_address(site) for site in started))} ========")
            await stopped.wait()
        logger.info(
            "stopping: %d clients are told to reconnect", sum(len(engine.sockets) for engine in engines.values())
        )
        for site in started:
            await site.stop()
        await asyncio.gather(*(engine.drain(drain_timeout) for engine in engines.values()))
    finally:
        bursts.stop()
        await runner.cleanup()


def _address(site: BaseSite) -> str:
    """Where a site listens, with the port it was given where it asked for any."""
    server = site._server
    sockets = getattr(server, "sockets", None)
    if isinstance(site, web.TCPSite) and sockets:
        name = sockets[0].getsockname()
        host = f"[{name[0]}]" if ":" in name[0] else name[0]
        return f"{site.name.partition('://')[0]}://{host}:{name[1]}"
    return site.name


def run_app(
    app: web.Application | Awaitable[web.Application],
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    shutdown_timeout: float = 10.0,
    **options: Any,
) -> None:
    """Run an application until SIGINT or SIGTERM, on uvloop, with the fast listener.

    Takes what ``aiohttp.web.run_app`` takes, ``drain_timeout``: seconds for telling clients to reconnect (10), and
    ``tune_collector`` (see ``run``).
    """
    loop = loop or new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        main = loop.create_task(run(app, shutdown_timeout=shutdown_timeout, **options))
        try:
            loop.run_until_complete(main)
        except KeyboardInterrupt:
            main.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                loop.run_until_complete(main)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()
