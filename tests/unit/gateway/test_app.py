"""How settings become an application."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import gateway
from gateway.app import create_application, create_server, load_application
from gateway.limits import Limits
from gateway.settings import Settings, SettingsError
from transports.hosts.aiohttp import attached_engines


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes an importable module; its name."""
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def write(text: str) -> str:
        name = f"tidegate_test_application_{len(names)}"
        names.append(name)
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)


def paths(app: web.Application) -> set[str]:
    return {resource.canonical for resource in app.router.resources()}


def test_settings_become_the_servers_options() -> None:
    server = create_server(
        Settings(
            transports=("polling", "websocket"),
            allow_upgrades=False,
            http_compression=False,
            websocket_compression=True,
            ping_interval_s=7,
            ping_timeout_s=6,
            upgrade_timeout_s=5,
            connect_timeout_s=4,
            stream_max_s=3,
            stream_max_bytes=2000,
            max_payload_bytes=1000,
            max_buffered_bytes=3000,
            max_total_buffered_bytes=4000,
            packets_per_second=5,
            bytes_per_second=6,
            max_attachments_bytes=7,
            max_namespaces=8,
            max_rooms=9,
            max_pending_acks=10,
            max_handlers_per_connection=11,
            max_handlers=12,
            once_window_s=13.0,
            max_once_streams=14,
            max_once_bytes=15,
            cors_allowed_origins=("https://a.example",),
            cors_credentials=False,
            trusted_proxies=("private", "192.0.2.7"),
        )
    )
    engine = server.eio
    assert engine.transports == ["polling", "websocket"]
    assert (engine.allow_upgrades, engine.http_compression, engine.websocket_compression) == (False, False, True)
    assert engine.trusted_proxies.networks == ("private", "192.0.2.7")
    assert (engine.ping_interval_s, engine.ping_timeout_s, engine.upgrade_timeout_s) == (7, 6, 5)
    assert (server.connect_timeout_s, engine.stream_max_s) == (4, 3)
    assert (engine.stream_max_bytes, engine.max_payload_bytes, engine.max_buffered_bytes) == (2000, 1000, 3000)
    assert engine.budget.limit == 4000
    assert engine.rates is not None
    assert (engine.rates.packets_per_s, engine.rates.bytes_per_s) == (5, 6)
    assert server.limits == Limits(
        max_namespaces=8,
        max_rooms=9,
        max_pending_acks=10,
        max_handlers_per_connection=11,
        max_handlers=12,
        max_attachments_bytes=7,
        once_window_s=13.0,
        max_once_streams=14,
        max_once_bytes=15,
    )


def test_application_serves_engine_client_and_a_page() -> None:
    app = create_application(Settings())
    assert list(attached_engines(app)) == ["/socket.io/"]
    assert {"/", "/socket.io/", "/socket.io/socket.io.js"} <= paths(app)


def test_path_of_the_settings_is_where_clients_connect() -> None:
    app = create_application(Settings(path="/live/io/"))
    assert list(attached_engines(app)) == ["/live/io/"]
    assert "/live/io/socket.io.js" in paths(app)


def test_demo_brings_its_page() -> None:
    assert any(path.startswith("/demo/") for path in paths(create_application(Settings(demo=True))))
    assert not any(path.startswith("/demo/") for path in paths(create_application(Settings())))


def test_named_server_is_attached_and_named_application_served(module: Any) -> None:
    name = module(
        "import gateway\nfrom aiohttp import web\n"
        "server = gateway.Server()\napp = web.Application()\nclass box:\n    inner = gateway.Server()\n"
    )
    loaded = sys.modules.get(name) or importlib.import_module(name)
    assert create_application(Settings(app=f"{name}:app")) is loaded.app
    served = create_application(Settings(app=f"{name}:server", path="/x/"))
    assert list(attached_engines(served).values()) == [loaded.server.eio]
    assert list(attached_engines(served)) == ["/x/"]
    assert create_application(Settings(app=f"{name}:box.inner"))


def test_broker_of_the_settings_joins_a_named_application(module: Any) -> None:
    name = module(
        "import gateway\nfrom aiohttp import web\n"
        "server, other, own, third, lone = [gateway.Server() for _ in range(5)]\n"
        "joined = gateway.Server(broker='memory:own')\n"
        "app, two, none = web.Application(), web.Application(), web.Application()\n"
        "server.attach(app)\njoined.attach(app, 'joined')\n"
        "other.attach(two)\nthird.attach(two, 'third')\nlone.attach(none)\n"
    )
    loaded = importlib.import_module(name)
    own = loaded.joined.cluster
    create_application(Settings(app=f"{name}:app", broker="memory:settings"))
    assert loaded.server.cluster is not None
    assert loaded.joined.cluster is own, "what the code says stands"
    create_application(Settings(app=f"{name}:own", broker="memory:settings"))
    assert loaded.own.cluster is not None
    create_application(Settings(app=f"{name}:none"))
    assert loaded.lone.cluster is None
    with pytest.raises(SettingsError, match="2 servers without a broker"):
        create_application(Settings(app=f"{name}:two", broker="memory:settings"))


def test_name_that_leads_nowhere_is_a_problem_of_the_setting(module: Any) -> None:
    name = module("number = 7\n")
    for target, hint in (
        ("no_such_module_anywhere:app", "no module no_such_module_anywhere"),
        (f"{name}:missing", "missing"),
        (f"{name}:number.missing", "missing"),
        (f"{name}.sub:app", "no module"),
        (f"{name}:number", "is a int"),
    ):
        with pytest.raises(SettingsError, match=hint) as caught:
            create_application(Settings(app=target))
        assert [problem.name for problem in caught.value.problems] == ["app"]


def test_fault_inside_the_named_module_is_not_hidden(module: Any) -> None:
    with pytest.raises(ModuleNotFoundError, match="surely_not_installed"):
        load_application(module("import surely_not_installed\n") + ":app")
    with pytest.raises(ZeroDivisionError):
        load_application(module("1 / 0\n") + ":app")


def test_two_servers_at_one_path_are_refused() -> None:
    app = web.Application()
    gateway.Server().attach(app)
    with pytest.raises(ValueError, match=r"attached at /socket\.io/"):
        gateway.Server().attach(app, serve_client=False)
    gateway.Server().attach(app, "other")
    assert set(attached_engines(app)) == {"/socket.io/", "/other/"}
