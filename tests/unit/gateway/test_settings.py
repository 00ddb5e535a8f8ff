"""The table of settings: its defaults, its help, its constructor, and what goes together."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from gateway.setting_kinds import TRANSPORTS
from gateway.settings import GROUPS, SETTINGS, Settings, SettingsError, load, resolve


def test_the_defaults_are_those_of_the_design() -> None:
    assert dataclasses.asdict(Settings()) == {
        "app": None,
        "host": "127.0.0.1",
        "port": 8000,
        "backlog": 1024,
        "path": "/socket.io/",
        "trusted_proxies": ("loopback",),
        "demo": False,
        "uvloop": True,
        "drain_timeout_s": 10.0,
        "workers": 1,
        "worker_timeout_s": 60.0,
        "runtime_dir": None,
        "cluster_listen": None,
        "cluster_secret": None,
        "cluster_registry": None,
        "cluster_certfile": None,
        "cluster_keyfile": None,
        "cluster_cafile": None,
        "transports": ("websocket", "xhr-streaming", "polling"),
        "allow_upgrades": True,
        "ping_interval_s": 25.0,
        "ping_timeout_s": 20.0,
        "upgrade_timeout_s": 10.0,
        "connect_timeout_s": 45.0,
        "stream_max_bytes": 1_048_576,
        "stream_max_s": 300.0,
        "http_compression": True,
        "websocket_compression": False,
        "max_payload_bytes": 1_000_000,
        "max_buffered_bytes": 4_194_304,
        "max_total_buffered_bytes": 536_870_912,
        "max_connections": 100_000,
        "max_connections_per_address": 5_000,
        "handshakes_per_second": 100,
        "packets_per_second": 10_000,
        "bytes_per_second": 33_554_432,
        "max_attachments_bytes": 8_388_608,
        "max_namespaces": 100,
        "max_rooms": 5_000,
        "max_pending_acks": 10_000,
        "max_handlers_per_connection": 1_000,
        "max_handlers": 20_000,
        "once_window_s": 300.0,
        "max_once_streams": 100_000,
        "max_once_bytes": 256 * 1024**2,
        "recovery_s": 0.0,
        "recovery_max_bytes": 64 * 1024 * 1024,
        "recovery_max_clients": 100_000,
        "broker": None,
        "cors_allowed_origins": "same-origin",
        "cors_credentials": True,
        "certfile": None,
        "keyfile": None,
        "keyfile_password": None,
        "log_format": "text",
        "log_level": "info",
        "access_log": False,
    }


def test_no_source_gives_the_defaults() -> None:
    assert load({}, {}, None) == Settings()


def test_transports_are_those_of_the_design() -> None:
    assert TRANSPORTS == ("websocket", "xhr-streaming", "polling")


def test_every_setting_has_a_known_table_and_help_without_a_full_stop() -> None:
    for each in SETTINGS:
        assert each.group in GROUPS
        assert each.text
        assert not each.text.endswith(".")


def test_settings_are_frozen_and_hide_the_password() -> None:
    settings = Settings(certfile=Path("c"), keyfile=Path("k"), keyfile_password="hunter2")
    assert "hunter2" not in repr(settings)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.port = 1  # type: ignore[misc]


def test_the_constructor_checks_and_converts_what_it_is_given() -> None:
    assert Settings(ping_interval_s="2m", transports=["polling"]).ping_interval_s == 120.0  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"port: must be .*\npath: must be"):
        Settings(port=-1, path="nope")
    with pytest.raises(SettingsError, match="keyfile beside it"):
        Settings(certfile=Path("c"))


@pytest.mark.parametrize(
    ("given_names", "complaint"),
    [
        ({"certfile"}, "--certfile: needs keyfile beside it (the same file when it holds the key too)"),
        ({"keyfile"}, "--keyfile: needs certfile beside it"),
        ({"certfile", "keyfile_password"}, "--keyfile-password: needs keyfile, which is not set"),
        ({"certfile", "keyfile", "keyfile_password"}, None),
        ({"certfile", "keyfile"}, None),
        (set(), None),
    ],
)
def test_certificate_and_key_go_together(given_names: set[str], complaint: str | None) -> None:
    resolution = resolve(dict.fromkeys(given_names, "x"), {})
    found = [str(problem) for problem in resolution.problems]
    assert complaint in found if complaint else not found


def test_a_refused_key_is_not_also_called_missing() -> None:
    assert len(resolve({"certfile": "c", "keyfile": ""}, {}).problems) == 1


def test_the_demo_lets_clients_come_back_unless_told_otherwise() -> None:
    assert load({"demo": True}, {}).recovery_s == 120
    assert load({"demo": True, "recovery_s": "0"}, {}).recovery_s == 0
    assert load({"demo": True}, {"TIDEGATE_RECOVERY_S": "5s"}).recovery_s == 5
    assert load({"demo": True, "app": "chat:server"}, {}).recovery_s == 0
    assert load({}, {}).recovery_s == 0
