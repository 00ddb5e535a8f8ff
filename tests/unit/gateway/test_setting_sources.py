"""Flags, variables and files: which wins, and what is said of those that are wrong."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.setting_sources import ACCELERATOR_VARIABLES, TEST_PREFIX, ConfigFile, read_file
from gateway.settings import BY_NAME, SETTINGS, Settings, SettingsError, load, resolve


def toml(text: str, path: str = "conf/tidegate.toml") -> ConfigFile:
    return ConfigFile(Path(path), tomllib.loads(text))


def problems(
    argv_values: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    file: ConfigFile | None = None,
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(argv_values or {}, environ or {}, file)
    return [str(problem) for problem in caught.value.problems]


FLAG = {"port": "1001"}
VARIABLE = {"TIDEGATE_PORT": "1002"}
FILE = toml("[server]\nport = 1003")


@pytest.mark.parametrize(
    ("argv_values", "environ", "file", "port", "source"),
    [
        (FLAG, VARIABLE, None, 1001, "flag --port"),
        (FLAG, {}, FILE, 1001, "flag --port"),
        (FLAG, {}, None, 1001, "flag --port"),
        ({}, VARIABLE, FILE, 1002, "TIDEGATE_PORT"),
        ({}, VARIABLE, None, 1002, "TIDEGATE_PORT"),
        ({}, {}, FILE, 1003, "conf/tidegate.toml"),
        ({}, {}, None, 8000, "default"),
        (FLAG, VARIABLE, FILE, 1001, "flag --port"),
    ],
)
def test_a_flag_wins_over_a_variable_over_the_file_over_the_default(
    argv_values: dict[str, object], environ: dict[str, str], file: ConfigFile | None, port: int, source: str
) -> None:
    resolution = resolve(argv_values, environ, file)
    assert resolution.settings().port == port
    assert str(resolution.sources["port"]) == source


def test_each_setting_takes_its_own_source() -> None:
    settings = load({"port": "1"}, {"TIDEGATE_HOST": "::1"}, toml("[log]\nlog_level = 'debug'"))
    assert (settings.port, settings.host, settings.log_level) == (1, "::1", "debug")


@pytest.mark.parametrize("each", SETTINGS, ids=lambda each: each.name)
def test_every_setting_can_come_from_every_source(each: object) -> None:
    samples: dict[str, object] = {
        "app": "a.b:c",
        "certfile": "c.pem",
        "keyfile": "k.pem",
        "broker": "unix:bus",
        "keyfile_password": "x",
        "cluster_listen": "10.0.0.5:7000",
    }
    setting = BY_NAME[each.name]  # type: ignore[attr-defined]
    raw = samples.get(setting.name, setting.show(setting.default))
    for argv_values, environ, file, kind in (
        ({setting.name: raw}, {}, None, "flag"),
        ({}, {setting.variable: str(raw)}, None, "environment"),
        ({}, {}, ConfigFile(Path("t.toml"), {setting.group: {setting.name: raw}}), "file"),
    ):
        resolution = resolve(argv_values, environ, file)
        assert resolution.sources[setting.name].kind == kind
        assert setting.kind.plain(resolution.values[setting.name]) is not None


def test_an_empty_variable_counts_as_unset() -> None:
    assert load({}, {"TIDEGATE_PORT": "", "TIDEGATE_APP": ""}).port == 8000


def test_variables_of_others_are_left_alone() -> None:
    assert load({}, {"PORT": "x", "PATH": "/bin", "tidegate_port": "x", "TIDEGATE": "x"}) == Settings()


def test_variables_that_kubernetes_adds_for_a_service_are_passed_over() -> None:
    environ = {
        "TIDEGATE_SERVICE_HOST": "10.0.0.1",
        "TIDEGATE_SERVICE_PORT": "8000",
        "TIDEGATE_SERVICE_PORT_HTTP": "8000",
        "TIDEGATE_PORT": "tcp://10.0.0.1:8000",
        "TIDEGATE_PORT_8000_TCP": "tcp://10.0.0.1:8000",
        "TIDEGATE_PORT_8000_TCP_PROTO": "tcp",
        "TIDEGATE_PORT_8000_TCP_PORT": "8000",
        "TIDEGATE_PORT_8000_TCP_ADDR": "10.0.0.1",
        "TIDEGATE_REDIS_SERVICE_HOST": "10.0.0.2",
        "TIDEGATE_REDIS_PORT": "tcp://10.0.0.2:6379",
    }
    assert load({}, environ) == Settings()
    assert len(problems({}, {"TIDEGATE_REDIS_PORT": "6379"})) == 1


def test_variables_of_test_suites_are_passed_over() -> None:
    assert load({}, {"TIDEGATE_TEST_TIMEOUT_FACTOR": "x", "TIDEGATE_TEST_": "x"}) == Settings()
    assert load({}, dict.fromkeys(ACCELERATOR_VARIABLES, "1")) == Settings()
    assert len(problems({}, {"TIDEGATE_TEST": "x", "TIDEGATE_TESTS": "x", "TIDEGATE_MY_TEST_X": "x"})) == 3
    assert not [each.name for each in SETTINGS if each.variable.startswith(TEST_PREFIX)]


def test_relative_files_in_a_file_are_relative_to_its_folder() -> None:
    text = "[tls]\ncertfile = 'c.pem'\nkeyfile = '/k.pem'"
    settings = load({}, {}, toml(text, "/etc/tidegate/t.toml"))
    assert (settings.certfile, settings.keyfile) == (Path("/etc/tidegate/c.pem"), Path("/k.pem"))
    assert load({"certfile": "c.pem", "keyfile": "k.pem"}, {}).certfile == Path("c.pem")


# --- Problems


def test_all_problems_of_all_sources_are_reported_at_once() -> None:
    found = problems(
        {"port": "x"},
        {"TIDEGATE_PORT": "y", "TIDEGATE_HOTS": "h"},
        toml("[server]\nport = 'z'\nbaklog = 1\n[tls]\nkeyfile = 'k'"),
    )
    assert found == [
        "--port: must be a whole number from 0 to 65535, not 'x'",
        "TIDEGATE_HOTS: there is no such variable; did you mean 'TIDEGATE_HOST'?",
        "TIDEGATE_PORT: must be a whole number from 0 to 65535, not 'y'",
        "conf/tidegate.toml: [server] port: must be a whole number from 0 to 65535, not 'z'",
        (
            "conf/tidegate.toml: [server] baklog: there is no such setting; did you mean 'backlog'?; "
            "[server] has app, host, port, backlog, path, trusted_proxies, demo, uvloop, drain_timeout_s"
        ),
        "conf/tidegate.toml: [tls] keyfile: needs certfile beside it",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sever]\nport = 1", "sever: there is no such table; did you mean 'server'?; tables are server,"),
        ("[zzz]", "tables are server, workers, transports, limits, recovery, cluster, cors, tls, log"),
        ("port = 1", "port: belongs under [server]"),
        ("[log]\nport = 1", "[log] port: belongs under [server]"),
        ("log = 'debug'", "log: must be a table, written [log], not a string"),
        ("[[tls]]\nkeyfile_password = 'hunter2'", "tls: must be a table, written [tls], not an array"),
        ("transports = ['polling']", "did you mean the key 'transports' under [transports]?"),
        ('[log]\n"a\\nb" = 1', '[log] "a\\nb": there is no such setting'),
        ("[server]\nPort = 1", "[server] Port: there is no such setting; did you mean 'port'?"),
        ("keyfile_password = 'hunter2'", "keyfile_password: belongs under [tls]"),
    ],
)
def test_an_unknown_key_of_a_file_is_named_with_what_is_allowed(text: str, message: str) -> None:
    (problem,) = problems(file=toml(text))
    assert problem.startswith("conf/tidegate.toml: ")
    assert message in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("TIDEGATE_PROT", "did you mean 'TIDEGATE_PORT'?"),
        ("TIDEGATE_port", "did you mean 'TIDEGATE_PORT'?"),
        ("TIDEGATE_PING_INTERVAL", "did you mean 'TIDEGATE_PING_INTERVAL_S'?"),
        ("TIDEGATE_CONFIGS", "did you mean 'TIDEGATE_CONFIG'?"),
        ("TIDEGATE_", "there is no such variable"),
    ],
)
def test_an_unknown_variable_is_named_with_what_was_meant(variable: str, message: str) -> None:
    (problem,) = problems(environ={variable: "1"})
    assert problem.startswith(f"{variable}: there is no such variable")
    assert message in problem


def test_a_value_that_another_overrides_is_checked_too() -> None:
    assert problems({"port": "1"}, {"TIDEGATE_PORT": "x"}) == [
        "TIDEGATE_PORT: must be a whole number from 0 to 65535, not 'x'"
    ]


def test_a_password_is_never_part_of_a_problem() -> None:
    (problem,) = problems(file=toml("[tls]\nkeyfile_password = ['hunter2']"))
    assert "hunter2" not in problem
    (problem,) = problems({"keyfile_password": "hunter2"})
    assert problem == "--keyfile-password: needs keyfile, which is not set"


# --- Files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"port = ", "is not TOML: Invalid value (at"),
        (b"a = 1\na = 2", "is not TOML"),
        (b"\xff", "is not TOML: byte 0 is not UTF-8"),
        (b"a = " + b"9" * 5000, "is not TOML"),
        (b"a = " + b"[" * 5000, "is not TOML"),
    ],
)
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_file(path, "--config")
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_file_that_cannot_be_read_is_named_with_who_asked_for_it(tmp_path: Path) -> None:
    missing = tmp_path / "x.toml"
    with pytest.raises(SettingsError) as caught:
        read_file(missing, "TIDEGATE_CONFIG")
    assert str(caught.value) == f"TIDEGATE_CONFIG: cannot read {missing}: No such file or directory"
    with pytest.raises(SettingsError, match="Is a directory"):
        read_file(tmp_path, "--config")
