"""A worker: one process that serves clients, told by its supervisor what to accept and when to leave.

    python -m gateway.workers.worker FD

FD is its end of the channel. The first message says who it is (``Instructions``); then come ``accept``, ``report`` and
``drain``. Where the channel ends, the supervisor has, and the worker drains. What goes wrong is told by the channel
too, since the supervisor says it once where all workers fail alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from aiohttp import web

from gateway import cli, collector, logs
from gateway.app import create_application, event_loop
from gateway.cluster import Cluster
from gateway.runner import AppRunner
from gateway.settings import Settings, SettingsError
from gateway.tls_context import cluster_contexts
from transports.engine import Engine
from transports.hosts.aiohttp import attached_engines
from transports.peers.cluster import ClusterOptions
from transports.peers.forwarder import PeerForwarder
from transports.peers.links import LinkListener
from transports.peers.registry import FileRegistry

from .channel import Channel, read_first, send_last
from .membership import NodeRegistry, join

logger = logging.getLogger("tidegate.worker")

#: Exit codes: of a worker that cannot start with this configuration, and of one whose application has failed.
BAD_CONFIGURATION = 2
FAILED = 1


class Instructions(TypedDict):
    """``sockets``: for each place to accept at, its descriptors; ``cluster``: those of the internal address."""

    worker_id: str
    index: int
    argv: list[str]
    directory: str
    sockets: list[list[int]]
    cluster: list[int]


def cluster_options(settings: Settings, clusters: Sequence[Cluster] = ()) -> ClusterOptions | None:
    """``clusters``: whose nodes tell where workers live, unless a file does. Raises: SettingsError."""
    if settings.cluster_secret is None:
        return None
    registry = NodeRegistry(clusters) if settings.cluster_registry is None else FileRegistry(settings.cluster_registry)
    contexts: tuple[ssl.SSLContext | None, ssl.SSLContext | None] = (None, None)
    if settings.cluster_certfile is not None and settings.cluster_keyfile is not None:
        authorities = settings.cluster_cafile or settings.cluster_certfile
        contexts = cluster_contexts(settings.cluster_certfile, settings.cluster_keyfile, authorities)
    return ClusterOptions(settings.cluster_secret.encode(), registry, *contexts)


class Worker:
    """The serving part; ``channel`` is the supervisor's."""

    def __init__(self, settings: Settings, app: web.Application, told: Instructions, channel: Channel) -> None:
        self._settings = settings
        self._ssl_context = settings.ssl_context()
        self._channel = channel
        self._sockets = [[socket.socket(fileno=fd) for fd in fds] for fds in told["sockets"]]
        self._cluster_sockets = [socket.socket(fileno=fd) for fd in told["cluster"]]
        self._told = told
        self._runner = AppRunner(
            app,
            handle_signals=False,
            shutdown_timeout=settings.drain_timeout_s,
            access_log=logging.getLogger("aiohttp.access") if settings.access_log else None,
        )
        self._engines: list[Engine] = list(attached_engines(app).values())
        self._app = app
        self._sites: dict[int, list[web.SockSite]] = {}
        self._cluster_servers: list[asyncio.Server] = []
        self._forwarder: PeerForwarder
        self._leaving = asyncio.Event()
        self._successors: Sequence[str] = ()

    async def run(self) -> None:
        settings, told = self._settings, self._told
        for engine in self._engines:
            engine.worker_id = told["worker_id"]
        clusters = join(self._engines, Path(told["directory"]), settings.cluster_listen)
        await self._runner.setup()
        self._forwarder = PeerForwarder(
            told["worker_id"],
            Path(told["directory"]),
            self._runner.server,
            LinkListener(attached_engines(self._app)),
            self._engines[0] if self._engines else None,
            cluster_options(settings, clusters),
        )
        bursts = collector.BurstWatch(
            lambda: sum(engine.counters.opened for engine in self._engines),
            lambda: sum(len(engine.sockets) for engine in self._engines),
        )
        for engine in self._engines:
            engine.forwarder = self._forwarder
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._leaving.set)
        try:
            self._forwarder.start()
            await self._listen_for_hosts()
            collector.tune()
            bursts.start()
            listening = loop.create_task(self._listen_to_supervisor())
            self._channel.send(ready=True)
            await self._leaving.wait()
            self._channel.send(leaving=True)
            await self._drain()
            listening.cancel()
        finally:
            bursts.stop()
            # Requests come until it has closed the last of the clients' connections.
            cleaning = loop.create_task(self._runner.cleanup())
            await self._forwarder.finish_relays(cleaning)
            await cleaning
            self._forwarder.close()

    async def _listen_to_supervisor(self) -> None:
        async for message in self._channel.messages():
            if "accept" in message:
                await self._accept(message["accept"])
            if "report" in message:
                # Here, since psutil takes a millisecond to load and is wanted by nobody else in this process.
                from . import report

                self._channel.send(report=report.of_worker(self._engines, self._forwarder))
            if "drain" in message:
                self._successors = message["drain"]
                self._leaving.set()
        self._leaving.set()

    async def _accept(self, places: Sequence[int]) -> None:
        """Accept connections at these of the sockets, and at no other; at none once this worker leaves."""
        if self._leaving.is_set():
            places = ()
        for place in set(self._sites) - set(places):
            for site in self._sites.pop(place):
                await site.stop()
        for place in set(places) - set(self._sites):
            self._sites[place] = []
            for sock in self._sockets[place]:
                site = web.SockSite(
                    self._runner, sock.dup(), ssl_context=self._ssl_context, backlog=self._settings.backlog
                )
                self._sites[place].append(site)
                await site.start()
        if places:
            self._runner.limit_unsent()

    async def _listen_for_hosts(self) -> None:
        listener = self._forwarder.cluster_listener
        if listener is None:
            return
        for sock in self._cluster_sockets:
            server = await asyncio.get_running_loop().create_server(
                listener, sock=sock.dup(), ssl=listener.options.server_tls
            )
            self._cluster_servers.append(server)

    async def _drain(self) -> None:
        await self._accept(())
        for server in self._cluster_servers:
            server.close()
        # Where the supervisor was killed, its successor can have the port although this worker is still draining.
        for sock in (*self._cluster_sockets, *(sock for several in self._sockets for sock in several)):
            sock.close()
        self._forwarder.leave(self._successors)
        logger.info("stopping: %d clients are told to reconnect", sum(len(engine.sockets) for engine in self._engines))
        timeout_s = self._settings.drain_timeout_s
        draining = asyncio.gather(*(engine.drain(timeout_s) for engine in self._engines))
        await self._forwarder.finish_relays(draining, timeout_s)
        await draining
        await self._forwarder.finish()
        self._forwarder.leave(self._successors)


def main(argv: Sequence[str]) -> int:
    """Exit codes as those of the command."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the supervisor decides
    sock = socket.socket(fileno=int(argv[0]))
    told: Any = read_first(sock)
    instructions: Instructions = told
    for fd in (sock.fileno(), *instructions["cluster"], *(fd for fds in instructions["sockets"] for fd in fds)):
        os.set_inheritable(fd, False)  # what the application runs must not hold them
    try:
        settings = cli.serve_settings(instructions["argv"], os.environ)
        logs.configure(settings.log_format, settings.log_level, worker=instructions["worker_id"])
        app = create_application(settings)
        cluster_options(settings)
    except SettingsError as error:
        send_last(sock, failed="\n".join(map(str, error.problems)))
        return BAD_CONFIGURATION
    except Exception:  # noqa: BLE001 - of the application
        send_last(sock, failed=traceback.format_exc())
        return FAILED

    async def run() -> int:
        channel = await Channel.over(sock)
        try:
            await Worker(settings, app, instructions, channel).run()
        except Exception:  # noqa: BLE001 - of the application, when it starts or ends
            channel.send(failed=traceback.format_exc())
            return FAILED
        finally:
            await channel.finish()
        return 0

    with asyncio.Runner(loop_factory=lambda: event_loop(settings)) as runner, contextlib.suppress(KeyboardInterrupt):
        return runner.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
