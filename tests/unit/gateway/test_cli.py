"""The command as its user sees it: output, standard error, exit code."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import logging
import os
import socket
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway import cli, logs, refusal_docs
from gateway.settings import GROUPS, SETTINGS, Problem, Settings, SettingsError, Switch, markdown
from transports.refusals import Door


@pytest.fixture(autouse=True)
def _clean_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variables of ours, and a working directory without a file."""
    for name in [name for name in os.environ if name.startswith("TIDEGATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)


@dataclass
class Result:
    code: int
    out: str
    err: list[str]


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_command(*argv: str) -> Result:
        try:
            code = cli.main(argv)
        except SystemExit as exc:  # argparse: --help, --version and its own errors
            code = exc.code  # type: ignore[assignment]
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return Result(code, captured.out, captured.err.splitlines())

    return run_command


@dataclass
class Served:
    """Stands in for gateway.app: records what it is asked to serve, and fails if told so."""

    settings: list[Settings] = field(default_factory=list)
    failure: BaseException | None = None
    configured: list[tuple[str, str]] = field(default_factory=list)

    def serve(self, settings: Settings) -> None:
        self.settings.append(settings)
        if self.failure:
            raise self.failure


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    double = Served()
    module = types.ModuleType("gateway.app")
    module.serve = double.serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gateway.app", module)
    monkeypatch.setattr(logs, "configure", lambda *args: double.configured.append(args))
    return double


# --- serve


def test_serve_hands_over_the_settings_and_exits_0(run: Run, served: Served) -> None:
    result = run("serve", "--port", "0", "chat.server:app", "--demo", "--no-uvloop", "--transports=polling")
    assert (result.code, result.out, result.err) == (0, "", [])
    assert served.settings == [
        Settings(port=0, app="chat.server:app", demo=True, uvloop=False, transports=("polling",))
    ]


def test_serve_configures_logging_first(run: Run, served: Served) -> None:
    run("serve", "--log-format", "json", "--log-level", "debug")
    assert served.configured == [("json", "debug")]


def test_precedence_holds_through_the_command(
    run: Run, served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tidegate.toml").write_text("[server]\nport = 3\nhost = '10.0.0.3'\nbacklog = 3")
    monkeypatch.setenv("TIDEGATE_PORT", "2")
    monkeypatch.setenv("TIDEGATE_HOST", "10.0.0.2")
    run("serve", "--port", "1")
    (settings,) = served.settings
    assert (settings.port, settings.host, settings.backlog, settings.path) == (
        1,
        "10.0.0.2",
        3,
        "/socket.io/",
    )


def test_the_file_named_by_flag_wins_over_that_named_by_variable_over_that_in_the_folder(
    run: Run, served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number, name in enumerate(("flag.toml", "variable.toml", "tidegate.toml"), start=1):
        (tmp_path / name).write_text(f"[server]\nport = {number}")
    run("serve")
    monkeypatch.setenv("TIDEGATE_CONFIG", "variable.toml")
    run("serve")
    run("serve", "--config", "flag.toml")
    assert [settings.port for settings in served.settings] == [3, 2, 1]


@pytest.mark.parametrize(
    ("failure", "line"),
    [
        (
            OSError(errno.EADDRINUSE, "address already in use"),
            "cannot listen on 127.0.0.1:80: the address is in use; stop what listens there or choose another",
        ),
        (
            OSError(errno.EADDRNOTAVAIL, "x"),
            "cannot listen on 127.0.0.1:80: this machine has no such address;",
        ),
        (
            PermissionError(errno.EACCES, "x"),
            "cannot listen on 127.0.0.1:80: permission denied; ports below 1024",
        ),
        (socket.gaierror(-2, "Name not known"), "cannot listen on 127.0.0.1:80: the host name is not known"),
        (
            OSError(errno.EMFILE, "Too many\nfiles"),
            "cannot serve on 127.0.0.1:80: [Errno 24] Too many\\nfiles",
        ),
    ],
)
def test_a_listener_that_cannot_start_is_one_line_and_exit_1(
    run: Run, served: Served, failure: OSError, line: str
) -> None:
    served.failure = failure
    result = run("serve", "--port", "80")
    assert result.code == 1
    (written,) = result.err
    assert written.startswith(f"tidegate: {line}")


def test_an_ipv6_address_is_written_in_brackets(run: Run, served: Served) -> None:
    served.failure = OSError(errno.EADDRINUSE, "x")
    assert "cannot listen on [::1]:8000:" in run("serve", "--host", "::1").err[0]


def test_settings_that_the_server_refuses_exit_2(run: Run, served: Served) -> None:
    served.failure = SettingsError([Problem("app", "APP", "cannot import 'nope'")])
    result = run("serve", "nope:app")
    assert (result.code, result.err) == (2, ["tidegate: APP: cannot import 'nope'"])


def test_an_interrupt_exits_130(run: Run, served: Served) -> None:
    served.failure = KeyboardInterrupt()
    result = run("serve")
    assert (result.code, result.err) == (130, [])


def test_a_failure_of_our_own_is_not_hidden(served: Served) -> None:
    served.failure = RuntimeError("bug")
    with pytest.raises(RuntimeError, match="bug"):
        cli.main(["serve"])


# --- Problems


def test_all_problems_are_told_at_once_a_line_each(
    run: Run, served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "t.toml").write_text("[server]\nprot = 1")
    monkeypatch.setenv("TIDEGATE_BACKLOG", "many")
    result = run("serve", "--config", "t.toml", "--hots", "x", "--port", "y", "--certfile", "/none.pem")
    assert result.code == 2
    assert result.err == [
        "tidegate: --hots: there is no such option; did you mean '--host'?",
        "tidegate: --port: must be a whole number from 0 to 65535, not 'y'",
        "tidegate: TIDEGATE_BACKLOG: must be a whole number from 1 to 65535, not 'many'",
        (
            "tidegate: t.toml: [server] prot: there is no such setting; did you mean 'port'?; "
            "[server] has app, host, port, backlog, path, trusted_proxies, demo, uvloop, drain_timeout_s"
        ),
        "tidegate: --certfile: needs keyfile beside it (the same file when it holds the key too)",
    ]
    assert not served.settings


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            ["serve", "--ping-interval", "3s"],
            "--ping-interval: there is no such option; did you mean '--ping-int",
        ),
        (["serve", "--drain", "3s"], "--drain: there is no such option; did you mean '--drain-timeout-s'?"),
        (["serve", "--prot=5"], "--prot: there is no such option; did you mean '--port'?"),
        (["serve", "--json"], "--json: there is no such option"),
        (["serve", "--zzzzz"], "--zzzzz: there is no such option; `tidegate serve --help` lists"),
        (["serve", "a:b", "c:d"], "c:d: is one argument too many; there can be one APP"),
        (["serve", "--port"], "argument --port: expected one argument"),
        (["--versoin"], "--versoin: there is no such option; did you mean '--version'?"),
        (["srve"], "argument COMMAND: invalid choice: 'srve'"),
        (["serve", "app"], "APP: must be module:attribute, such as chat.server:app, not 'app'"),
        (["config", "--config", "none.toml"], "--config: cannot read none.toml: No such file or directory"),
        (["config", "--config", "a\nb"], "--config: cannot read a\\nb: No such file or directory"),
        (["config", "--certfile", "c", "--keyfile", "/"], "--certfile: cannot read c: No such file"),
    ],
)
def test_a_wrong_command_line_is_told_in_lines_and_exits_2(
    run: Run, served: Served, argv: list[str], line: str
) -> None:
    result = run(*argv)
    assert (result.code, result.out) == (2, "")
    assert result.err[0].startswith(f"tidegate: {line}")
    assert all(each.startswith("tidegate: ") for each in result.err)
    assert not served.settings


def test_a_misspelt_command_is_recognised(run: Run) -> None:
    assert run("srve").err[0].endswith("did you mean 'serve'?")


def test_a_file_named_by_a_variable_that_is_missing_is_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_CONFIG", "none.toml")
    result = run("config")
    assert (result.code, result.err) == (
        2,
        ["tidegate: TIDEGATE_CONFIG: cannot read none.toml: No such file or directory"],
    )


def test_files_for_tls_are_checked_and_told_with_their_source(run: Run, tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text("[tls]\ncertfile = 'c.pem'\nkeyfile = 'k.pem'")
    assert run("config").err == [
        "tidegate: tidegate.toml: [tls] certfile: cannot read c.pem: No such file or directory",
        "tidegate: tidegate.toml: [tls] keyfile: cannot read k.pem: No such file or directory",
    ]


def test_no_command_prints_help_and_exits_2(run: Run) -> None:
    result = run()
    assert (result.code, result.out) == (2, "")
    assert result.err[0].startswith("usage: tidegate")


# --- config


def test_config_prints_every_setting_with_its_source_in_columns(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "my.toml").write_text("[limits]\nmax_payload_bytes = '2MiB'")
    monkeypatch.setenv("TIDEGATE_HOST", "::1")
    result = run("config", "--config", "my.toml", "--ping-interval-s", "1500ms", "--no-uvloop")
    assert (result.code, result.err) == (0, [])
    rows = {line.split()[0]: line for line in result.out.splitlines() if line and not line.startswith("[")}
    assert set(rows) == {each.name for each in SETTINGS}
    assert rows["max_payload_bytes"].split()[1:] == ["2MiB", "my.toml"]
    assert rows["host"].split()[1:] == ["::1", "TIDEGATE_HOST"]
    assert rows["ping_interval_s"].split()[1:] == ["1.5s", "flag", "--ping-interval-s"]
    assert rows["uvloop"].split()[1:] == ["false", "flag", "--uvloop"]
    assert rows["path"].split()[1:] == ["/socket.io/", "default"]
    assert rows["app"].split()[1:] == ["(not", "set)", "default"]
    sources = {"host": "TIDEGATE_HOST", "path": "default", "app": "default", "max_payload_bytes": "my.toml"}
    assert len({rows[name].index(source) for name, source in sources.items()}) == 1
    assert [line for line in result.out.splitlines() if line.startswith("[")] == [f"[{group}]" for group in GROUPS]


def test_config_as_json_has_plain_values_and_sources(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_CORS_ALLOWED_ORIGINS", "https://a.example")
    tables = json.loads(run("config", "--json", "--ping-interval-s", "2m", "a:b").out)
    assert list(tables) == list(GROUPS)
    assert tables["transports"]["ping_interval_s"] == {
        "value": 120.0,
        "source": "flag",
        "place": "--ping-interval-s",
    }
    assert tables["cors"]["cors_allowed_origins"] == {
        "value": ["https://a.example"],
        "source": "environment",
        "place": "TIDEGATE_CORS_ALLOWED_ORIGINS",
    }
    assert tables["server"]["app"] == {"value": "a:b", "source": "flag", "place": "APP"}
    assert tables["server"]["port"] == {"value": 8000, "source": "default", "place": None}


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_config_masks_the_password(run: Run, monkeypatch: pytest.MonkeyPatch, form: list[str]) -> None:
    monkeypatch.setattr(cli, "_tls_problems", lambda resolution: [])  # the files are not what is tested here
    monkeypatch.setenv("TIDEGATE_KEYFILE_PASSWORD", "hunter2")
    result = run("config", *form, "--certfile", "c", "--keyfile", "k")
    assert result.code == 0
    assert "********" in result.out
    assert "hunter2" not in result.out


def test_config_with_problems_prints_only_them(run: Run) -> None:
    result = run("config", "--port", "x")
    assert (result.code, result.out, len(result.err)) == (2, "", 1)


def test_config_prints_the_reference_page_whatever_is_set(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_NONSENSE", "1")
    assert run("config", "--markdown").out == markdown()


# --- Help and version


def test_help_groups_the_options_with_defaults_and_variables(run: Run) -> None:
    result = run("serve", "--help")
    assert result.code == 0
    for group, title in GROUPS.items():
        assert f"[{group}] {title}:" in result.out
    for each in SETTINGS:
        assert f"${each.variable})" in result.out
        assert each.is_positional or f"  {each.flag}" in result.out
        if isinstance(each.kind, Switch):
            assert f"--no-{each.flag[2:]}" in result.out
    assert "a time from 50ms to 24h; default: 25s; $TIDEGATE_PING_INTERVAL_S)" in result.out


def test_help_is_ascii_for_terminals_that_are_not_utf8(run: Run) -> None:
    assert all(run(*argv).out.isascii() for argv in (["--help"], ["serve", "--help"], ["config", "--help"]))


def test_version_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"tidegate {importlib.metadata.version('tidegate')}\n"


def test_problems_of_the_module_leave_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--port", "x"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "tidegate: --port: must be a whole number from 0 to 65535, not 'x'\n"


def test_the_command_does_not_load_the_server_for_config(tmp_path: Path) -> None:
    code = "import sys, gateway.cli; gateway.cli.main(['config']); sys.exit('gateway.app' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0


def test_a_traceback_of_a_failed_start_is_there_at_debug(
    run: Run, served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.failure = OSError(errno.EADDRINUSE, "x")
    with caplog.at_level(logging.DEBUG, "gateway.cli"):
        run("serve")
    assert caplog.records[0].exc_info is not None


# --- refusals


def test_refusals_lists_every_row_under_its_door(run: Run) -> None:
    result = run("refusals")
    assert (result.code, result.err) == (0, [])
    lines = result.out.splitlines()
    assert [line for line in lines if line.startswith("[")] == [f"[{door}]" for door in Door]
    assert {line.split()[0] for line in lines if line and not line.startswith("[")} == set(refusal_docs.BY_NAME)


def test_refusals_prints_the_page_and_json(run: Run) -> None:
    assert run("refusals", "--markdown").out == refusal_docs.markdown()
    assert run("refusals", "--json").out == refusal_docs.as_json()
    [row] = json.loads(run("refusals", "draining", "--json").out)["refusals"]
    assert (row["name"], row["status"], row["retry"]) == ("draining", 503, "later")


def test_refusals_shows_one_in_full(run: Run) -> None:
    result = run("refusals", "draining")
    assert (result.code, result.err) == (0, [])
    assert result.out == refusal_docs.as_text(refusal_docs.BY_NAME["draining"])


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("drainig",), "tidegate: drainig: there is no such refusal; did you mean 'draining'?"),
        (("drain",), "tidegate: drain: there is no such refusal; did you mean 'draining'?"),
        (("?",), "tidegate: ?: there is no such refusal; `tidegate refusals` lists those that there are"),
        (("draining", "more"), "tidegate: more: is one argument too many; there can be one NAME"),
        (("--jsn",), "tidegate: --jsn: there is no such option; did you mean '--json'?"),
        (("--xyz",), "tidegate: --xyz: there is no such option; `tidegate refusals --help` lists those that there are"),
        (
            ("draining", "--markdown"),
            "tidegate: draining: --markdown writes the page of all refusals; leave the name out",
        ),
        (("--json", "--markdown"), "tidegate: argument --markdown: not allowed with argument --json"),
    ],
)
def test_refusals_tells_what_is_wrong(run: Run, argv: tuple[str, ...], message: str) -> None:
    result = run("refusals", *argv)
    assert (result.code, result.out, result.err) == (2, "", [message])
