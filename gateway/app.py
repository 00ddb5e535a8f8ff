"""How the process is put together: settings become a server, an application and a listener."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from transports.hosts.aiohttp import attached_engines

from .runner import new_event_loop, run
from .server import Server
from .settings import Problem, Settings, SettingsError
from .workers.notify import Notifier, inherited_sockets

logger = logging.getLogger("tidegate")


def create_server(settings: Settings) -> Server:
    """A server with the engine options of ``settings``."""
    origins: Any = settings.cors_allowed_origins
    return Server(
        transports=settings.transports,
        allow_upgrades=settings.allow_upgrades,
        http_compression=settings.http_compression,
        websocket_compression=settings.websocket_compression,
        ping_interval=settings.ping_interval_s,
        ping_timeout=settings.ping_timeout_s,
        upgrade_timeout=settings.upgrade_timeout_s,
        connect_timeout=settings.connect_timeout_s,
        stream_max_s=settings.stream_max_s,
        stream_max_bytes=settings.stream_max_bytes,
        max_http_buffer_size=settings.max_payload_bytes,
        max_buffered_bytes=settings.max_buffered_bytes,
        max_total_buffered_bytes=settings.max_total_buffered_bytes,
        max_connections=settings.max_connections,
        max_connections_per_address=settings.max_connections_per_address,
        handshakes_per_second=settings.handshakes_per_second,
        packets_per_second=settings.packets_per_second,
        bytes_per_second=settings.bytes_per_second,
        max_attachments_bytes=settings.max_attachments_bytes,
        max_namespaces=settings.max_namespaces,
        max_rooms=settings.max_rooms,
        max_pending_acks=settings.max_pending_acks,
        max_handlers_per_connection=settings.max_handlers_per_connection,
        max_handlers=settings.max_handlers,
        once_window_s=settings.once_window_s,
        max_once_streams=settings.max_once_streams,
        max_once_bytes=settings.max_once_bytes,
        cors_allowed_origins=None if origins == "same-origin" else origins,
        cors_credentials=settings.cors_credentials,
        trusted_proxies=settings.trusted_proxies,
        recovery_s=settings.recovery_s,
        recovery_max_bytes=settings.recovery_max_bytes,
        recovery_max_clients=settings.recovery_max_clients,
        broker=settings.broker,
    )


def load_application(name: str) -> Any:
    """What ``module:attribute`` names.

    Raises: SettingsError.
    """
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as ``python -m`` has it; a console script has not
    try:
        found: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the module is there, but something that it imports is not
        raise _app_problem(f"there is no module {error.name}") from None
    except AttributeError as error:
        raise _app_problem(str(error)) from None
    return found


def _app_problem(message: str) -> SettingsError:
    return SettingsError([Problem("app", "APP", message)])


def create_application(settings: Settings) -> web.Application:
    """The aiohttp application of ``tidegate serve``: the one that ``APP`` names, or one around a server.

    Raises: SettingsError.
    """
    path = settings.path.strip("/")
    if settings.app is not None:
        target = load_application(settings.app)
        if isinstance(target, web.Application):
            app = target
        elif hasattr(target, "attach"):
            app = web.Application()
            target.attach(app) if settings.path == "/socket.io/" else target.attach(app, path)
        else:
            raise _app_problem(
                f"{settings.app} is a {type(target).__name__}; "
                "it must be an aiohttp.web.Application, a gateway.Server or a gateway.Router"
            )
        if settings.broker is not None:
            _join(app, settings.broker)
        return app
    server = create_server(settings)
    app = web.Application()
    server.attach(app, path)
    if settings.demo:
        from . import demo

        demo.install(server, app)
    else:
        app.router.add_get("/", _index)
    return app


def _join(app: web.Application, broker: str) -> None:
    """Make the application's server, where its code gives it no broker, one with those of other processes.

    Raises: SettingsError where several have none: over one broker, clients of one would get events of the other.
    """
    servers = [engine.application for engine in attached_engines(app).values()]
    alone = [server for server in servers if isinstance(server, Server) and server.cluster is None]
    if len(alone) > 1:
        message = f"APP has {len(alone)} servers without a broker; give each one of its own in the code"
        raise SettingsError([Problem("broker", "broker", message)])
    for server in alone:
        server.join(broker)


async def _index(_: web.Request) -> web.Response:
    return web.Response(text="tidegate is running. Start it with --demo to see it at work.\n")


def event_loop(settings: Settings) -> asyncio.AbstractEventLoop:
    """The kind that is asked for."""
    return new_event_loop() if settings.uvloop else asyncio.new_event_loop()


def serve(settings: Settings) -> None:
    """Run the gateway in this process until SIGTERM or SIGINT has been drained.

    Raises: SettingsError, OSError.
    """
    app = create_application(settings)
    ssl_context = settings.ssl_context()
    loop = event_loop(settings)
    notifier = Notifier(os.environ)
    inherited = inherited_sockets(os.environ)

    def announce(text: str) -> None:
        logger.info("%s", text.strip("= "))
        notifier.ready("1 process")

    main = run(
        app,
        host=None if inherited else settings.host,
        port=None if inherited else settings.port,
        sock=inherited or None,
        backlog=settings.backlog,
        ssl_context=ssl_context,
        drain_timeout=settings.drain_timeout_s,
        tune_collector=True,
        access_log=logging.getLogger("aiohttp.access") if settings.access_log else None,
        print=announce,
    )
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        try:
            runner.run(main)
        finally:
            notifier.stopping()


def supervise(settings: Settings, argv: Sequence[str]) -> int:
    """Run workers until SIGTERM or SIGINT has been drained; the exit code. ``argv``: the command line.

    Raises: OSError, SettingsError.
    """
    from .workers.runtime_dir import RuntimeDirError
    from .workers.supervisor import Supervisor

    settings.ssl_context()  # what is wrong with it is better said before anything is started
    try:
        return asyncio.run(Supervisor(settings, argv).run())
    except RuntimeDirError as error:
        raise SettingsError([Problem("runtime_dir", "runtime_dir", str(error))]) from None
