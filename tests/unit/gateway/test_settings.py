"""One table of settings: every source, every kind, every complaint."""

from __future__ import annotations

import dataclasses
import math
import ssl
import subprocess
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.settings import (
    BY_NAME,
    GROUPS,
    SETTINGS,
    TRANSPORTS,
    ConfigFile,
    Duration,
    Settings,
    SettingsError,
    Size,
    load,
    markdown,
    read_file,
    resolve,
)

ROOT = Path(__file__).resolve().parents[3]


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


def parse(name: str, raw: object) -> object:
    return BY_NAME[name].kind.parse(raw)


# --- Defaults and sources


def test_the_defaults_are_those_of_the_design() -> None:
    assert dataclasses.asdict(Settings()) == {
        "app": None,
        "host": "127.0.0.1",
        "port": 8000,
        "backlog": 1024,
        "path": "/socket.io/",
        "demo": False,
        "uvloop": True,
        "drain_timeout_s": 10.0,
        "transports": ("websocket", "xhr-streaming", "polling"),
        "allow_upgrades": True,
        "ping_interval_s": 25.0,
        "ping_timeout_s": 20.0,
        "upgrade_timeout_s": 10.0,
        "connect_timeout_s": 45.0,
        "stream_max_bytes": 1_048_576,
        "stream_max_s": 300.0,
        "http_compression": True,
        "max_payload_bytes": 1_000_000,
        "max_buffered_bytes": 4_194_304,
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
        "keyfile_password": "x",
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


def test_every_setting_has_a_known_table_and_help_without_a_full_stop() -> None:
    for each in SETTINGS:
        assert each.group in GROUPS
        assert each.text
        assert not each.text.endswith(".")


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


def test_relative_files_in_a_file_are_relative_to_its_folder() -> None:
    text = "[tls]\ncertfile = 'c.pem'\nkeyfile = '/k.pem'"
    settings = load({}, {}, toml(text, "/etc/tidegate/t.toml"))
    assert (settings.certfile, settings.keyfile) == (Path("/etc/tidegate/c.pem"), Path("/k.pem"))
    assert load({"certfile": "c.pem", "keyfile": "k.pem"}, {}).certfile == Path("c.pem")


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


# --- Kinds


GOOD: list[tuple[str, object, object]] = [
    ("port", "0", 0),
    ("port", " 65535 ", 65535),
    ("port", 80, 80),
    ("demo", True, True),
    ("demo", "Yes", True),
    ("demo", "on", True),
    ("demo", "1", True),
    ("demo", "FALSE", False),
    ("demo", "off", False),
    ("demo", "0", False),
    ("ping_interval_s", "500ms", 0.5),
    ("ping_interval_s", "25s", 25.0),
    ("ping_interval_s", "2m", 120.0),
    ("ping_interval_s", "1.5 m", 90.0),
    ("ping_interval_s", "24h", 86400.0),
    ("ping_interval_s", "25", 25.0),
    ("ping_interval_s", ".05", 0.05),
    ("ping_interval_s", 25, 25.0),
    ("ping_interval_s", 0.05, 0.05),
    ("drain_timeout_s", "0", 0.0),
    ("max_payload_bytes", "1", 1),
    ("max_payload_bytes", 123, 123),
    ("max_payload_bytes", "1_000_000", 1_000_000),
    ("max_payload_bytes", "64KiB", 65536),
    ("max_payload_bytes", "1MiB", 1_048_576),
    ("max_payload_bytes", "2kb", 2000),
    ("max_payload_bytes", "2 MB", 2_000_000),
    ("max_payload_bytes", "1.5MiB", 1_572_864),
    ("max_payload_bytes", "1GiB", 1 << 30),
    ("max_payload_bytes", "7B", 7),
    ("transports", "websocket", ("websocket",)),
    ("transports", " polling , websocket", ("polling", "websocket")),
    ("transports", ["polling", "xhr-streaming"], ("polling", "xhr-streaming")),
    ("cors_allowed_origins", "same-origin", "same-origin"),
    ("cors_allowed_origins", "*", "*"),
    ("cors_allowed_origins", ["*"], "*"),
    ("cors_allowed_origins", "https://a.example", ("https://a.example",)),
    ("cors_allowed_origins", "https://A.example:443, http://b:80", ("https://a.example", "http://b")),
    ("cors_allowed_origins", ["http://localhost:3000"], ("http://localhost:3000",)),
    ("cors_allowed_origins", "http://[::1]:8080", ("http://[::1]:8080",)),
    ("cors_allowed_origins", "capacitor://localhost", ("capacitor://localhost",)),
    ("host", "0.0.0.0", "0.0.0.0"),
    ("host", "::", "::"),
    ("host", "fe80::1%eth0", "fe80::1%eth0"),
    ("host", "my-host.example", "my-host.example"),
    ("path", "/", "/"),
    ("path", "/a/b-c/", "/a/b-c/"),
    ("app", "chat:app", "chat:app"),
    ("app", "chat.server:make.app", "chat.server:make.app"),
    ("certfile", "a b.pem", Path("a b.pem")),
    ("keyfile_password", " spaces stay ", " spaces stay "),
    ("log_format", "JSON", "json"),
    ("log_level", "warning", "warning"),
]


@pytest.mark.parametrize(("name", "raw", "value"), GOOD)
def test_a_good_value_is_understood(name: str, raw: object, value: object) -> None:
    result = parse(name, raw)
    assert result == value
    assert type(result) is type(value) or isinstance(result, Path)
    assert parse(name, result) == result


BAD: list[tuple[str, object, str]] = [
    ("port", "65536", "must be a whole number from 0 to 65535, not '65536'"),
    ("port", "-1", "from 0 to 65535"),
    ("port", "80a", "whole number"),
    ("port", "9" * 5000, "whole number"),
    ("port", "٨٠", "whole number"),
    ("port", 80.0, "whole number"),
    ("port", True, "not True"),
    ("port", [80], "whole number"),
    ("backlog", "0", "from 1 to"),
    ("demo", "maybe", "must be true or false, not 'maybe'"),
    ("demo", 1, "true or false"),
    ("ping_interval_s", "49ms", "a time from 50ms to 24h"),
    ("ping_interval_s", "0", "50ms"),
    ("ping_interval_s", "-1", "50ms"),
    ("ping_interval_s", "25 sec", "such as 500ms"),
    ("ping_interval_s", "1d", "such as 500ms"),
    ("ping_interval_s", "inf", "such as 500ms"),
    ("ping_interval_s", "25h", "24h"),
    ("ping_interval_s", math.inf, "24h"),
    ("ping_interval_s", math.nan, "24h"),
    ("ping_interval_s", 10**400, "24h"),
    ("ping_interval_s", True, "not True"),
    ("ping_timeout_s", 0, "from 1ms"),
    ("upgrade_timeout_s", 0.0, "from 1ms"),
    ("connect_timeout_s", "0ms", "from 1ms"),
    ("stream_max_s", "-5s", "from 1ms"),
    ("drain_timeout_s", -1, "from 0s"),
    ("max_payload_bytes", "0", "at least 1"),
    ("max_payload_bytes", "-5", "at least 1"),
    ("max_payload_bytes", "1M", "1MiB or 2MB"),
    ("max_payload_bytes", "1.5B", "number of bytes"),
    ("max_payload_bytes", "1.0", "number of bytes"),
    ("max_payload_bytes", 1e6, "number of bytes"),
    ("max_payload_bytes", True, "not True"),
    ("transports", "websockets", "polling, not 'websockets'; did you mean 'websocket'?"),
    ("transports", "carrier-pigeon", "one or more of websocket, xhr-streaming, polling"),
    ("transports", "polling,polling", "once"),
    ("transports", [], "one or more"),
    ("transports", ",", "one or more"),
    ("transports", ["polling", 1], "one or more"),
    ("transports", True, "one or more"),
    ("cors_allowed_origins", "a.example", "did you mean 'https://a.example'?"),
    ("cors_allowed_origins", "same_origin", "did you mean 'same-origin'?"),
    ("cors_allowed_origins", "https://a.example/", "no path, did you mean 'https://a.example'?"),
    ("cors_allowed_origins", "https://a.example/x?y", "no path"),
    ("cors_allowed_origins", "https://*.example", "scheme://host[:port]"),
    ("cors_allowed_origins", "https://me@a.example", "scheme://host[:port]"),
    ("cors_allowed_origins", "https://a.example:0", "scheme://host[:port]"),
    ("cors_allowed_origins", "https://a.example:65536", "scheme://host[:port]"),
    ("cors_allowed_origins", "https://", "scheme://host[:port]"),
    ("cors_allowed_origins", "null", "scheme://host[:port]"),
    ("cors_allowed_origins", "*,https://a.example", "'*' alone"),
    ("cors_allowed_origins", [], "or a list of origins"),
    ("cors_allowed_origins", 5, "or a list of origins"),
    ("host", "", "host name or IP"),
    ("host", "localhost:80", "host name or IP"),
    ("host", "http://a", "host name or IP"),
    ("host", "a b", "host name or IP"),
    ("host", 5, "host name or IP"),
    ("path", "socket.io", "must be a URL path that begins and ends with '/', such as /socket.io/, not '"),
    ("path", "socket.io", "did you mean '/socket.io/'?"),
    ("path", "/socket.io", "did you mean '/socket.io/'?"),
    ("path", "/a?b/", "begins and ends"),
    ("path", "/a b/", "begins and ends"),
    ("path", "//", "begins and ends"),
    ("path", "", "begins and ends"),
    ("path", 5, "begins and ends"),
    ("app", "chat", "must be module:attribute, such as chat.server:app, not 'chat'"),
    ("app", "chat/server.py:app", "module:attribute"),
    ("app", ":app", "module:attribute"),
    ("app", "chat:", "module:attribute"),
    ("app", 5, "module:attribute"),
    ("certfile", "", "a file"),
    ("certfile", "a\0b", "a file"),
    ("certfile", 5, "a file"),
    ("keyfile_password", 12345, "must be text, not int"),
    ("log_format", "jsno", "must be text or json, not 'jsno'; did you mean 'json'?"),
    ("log_level", "verbose", "debug, info, warning or error"),
    ("log_level", 10, "debug, info, warning or error"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "raw", "message"), BAD)
def test_a_bad_value_is_refused_with_what_is_allowed(name: str, raw: object, message: str) -> None:
    with pytest.raises(ValueError, match=r"must (be|name|have) ") as caught:
        parse(name, raw)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_kind_has_good_and_bad_examples() -> None:
    kinds = {type(each.kind) for each in SETTINGS}
    assert {type(BY_NAME[name].kind) for name, _, _ in GOOD} == kinds
    assert {type(BY_NAME[name].kind) for name, _, _ in BAD} == kinds


@given(st.floats(0.001, 86400.0))
def test_a_duration_reads_back_as_it_is_shown(value: float) -> None:
    assert Duration().parse(Duration().show(value)) == value


@given(st.integers(1, 1 << 50))
def test_a_size_reads_back_as_it_is_shown(value: int) -> None:
    assert Size().parse(Size().show(value)) == value


@given(st.sampled_from(SETTINGS), st.text() | st.integers() | st.floats() | st.lists(st.text()) | st.booleans())
def test_any_value_is_either_understood_or_refused_by_value_error(each: object, raw: object) -> None:
    kind = BY_NAME[each.name].kind  # type: ignore[attr-defined]
    try:
        value = kind.parse(raw)
    except ValueError:
        return
    assert kind.parse(value) == value


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
            "[server] has app, host, port, backlog, path, demo, uvloop, drain_timeout_s"
        ),
        "conf/tidegate.toml: [tls] keyfile: needs certfile beside it",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sever]\nport = 1", "sever: there is no such table; did you mean 'server'?; tables are server,"),
        ("[zzz]", "zzz: there is no such table; tables are server, transports, limits, cors, tls, log"),
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
    assert len(problems({"certfile": "c", "keyfile": ""})) == 1


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


# --- TLS


@pytest.fixture(scope="session")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cert.pem, key.pem, locked.pem (the same key, password `sesame`), other.pem."""
    folder = tmp_path_factory.mktemp("pems")
    commands = (
        "ecparam -genkey -name prime256v1 -noout -out key.pem",
        "req -x509 -new -key key.pem -days 2 -subj /CN=localhost -out cert.pem",
        "ec -in key.pem -aes256 -passout pass:sesame -out locked.pem",
        "ecparam -genkey -name prime256v1 -noout -out other.pem",
    )
    for command in commands:
        try:
            subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("needs the openssl command")
    return folder


def tls(folder: Path, certfile: str, keyfile: str, password: str | None = None) -> Settings:
    return Settings(certfile=folder / certfile, keyfile=folder / keyfile, keyfile_password=password)


def test_without_a_certificate_there_is_no_tls() -> None:
    assert Settings().ssl_context() is None


@pytest.mark.parametrize(("keyfile", "password"), [("key.pem", None), ("locked.pem", "sesame"), ("key.pem", "any")])
def test_a_certificate_and_its_key_make_a_server_context(pems: Path, keyfile: str, password: str | None) -> None:
    context = tls(pems, "cert.pem", keyfile, password).ssl_context()
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE


@pytest.mark.parametrize(
    ("certfile", "keyfile", "password", "message"),
    [
        (
            "none.pem",
            "gone.pem",
            None,
            "certfile: cannot read .*none.pem: No such file or directory\nkeyfile: cannot",
        ),
        (
            "cert.pem",
            "other.pem",
            None,
            "keyfile: .*other.pem is not the key of the certificate in .*cert.pem",
        ),
        ("cert.pem", "cert.pem", None, "keyfile: .*cert.pem holds no private key in PEM form"),
        ("key.pem", "key.pem", None, "certfile: .*key.pem holds no certificate in PEM form"),
        ("cert.pem", "locked.pem", None, "keyfile: .*locked.pem is encrypted; set keyfile_password"),
        ("cert.pem", "locked.pem", "wrong", "keyfile_password: does not open .*locked.pem"),
        ("cert.pem", "locked.pem", "long" * 999, "keyfile_password: does not open .*locked.pem"),
    ],
)
def test_files_of_no_use_are_named_with_the_reason(
    pems: Path, certfile: str, keyfile: str, password: str | None, message: str
) -> None:
    with pytest.raises(SettingsError, match=f"^{message}") as caught:
        tls(pems, certfile, keyfile, password).ssl_context()
    assert password is None or password not in str(caught.value)


# --- The reference page


def test_the_configuration_page_is_the_one_the_table_makes() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == markdown(), "run: tidegate config --markdown > docs/configuration.md"


def test_the_configuration_page_names_every_setting_flag_and_variable() -> None:
    page = markdown()
    for each in SETTINGS:
        assert f"`{each.name}`<br>`{each.flag}`<br>`{each.variable}`" in page


def test_the_file_on_the_configuration_page_holds_the_defaults() -> None:
    example = markdown().partition("```toml\n")[2].partition("```")[0]
    resolution = resolve({}, {}, toml(example))
    assert resolution.settings() == Settings()
    unset = {name for name, source in resolution.sources.items() if source.kind == "default"}
    assert unset == {"app", "certfile", "keyfile", "keyfile_password"}


def test_transports_are_those_of_the_design() -> None:
    assert TRANSPORTS == ("websocket", "xhr-streaming", "polling")
