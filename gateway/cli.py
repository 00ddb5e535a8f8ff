"""The `tidegate` command: what to run, with which settings, and how failures are told.

Exit codes: 0 done, 1 could not serve, 2 the command line or the configuration is wrong, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib.metadata
import json
import logging
import os
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, cast

from gateway import cluster_cli, logs
from gateway.logs import escape
from gateway.settings import (
    BY_NAME,
    CONFIG_VARIABLE,
    DEFAULT_FILE,
    GROUPS,
    ConfigFile,
    Problem,
    Resolution,
    Setting,
    Settings,
    SettingsError,
    Switch,
    did_you_mean,
    in_group,
    markdown,
    read_file,
    resolve,
)

_log = logging.getLogger(__name__)

COMMANDS = ("serve", "config", "refusals", "workers", *cluster_cli.COMMANDS)
TLS_NAMES = ("certfile", "keyfile", "keyfile_password")

EPILOG = f"""\
Each option can also be given by the environment variable named beside it, or under its own name (dashes as
underscores) in the table of a TOML file that the heading names: --config FILE, else ${CONFIG_VARIABLE}, else
./{DEFAULT_FILE} if there is one. A flag wins over a variable, a variable over the file.
Times are seconds or text such as 500ms, 25s, 2m; sizes are bytes or text such as 64KiB, 1MiB, 2MB.
`tidegate config` prints what is in effect and where it came from."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. Problems go to standard error, a line each."""
    parser = _parser()
    try:
        arguments, extras = parser.parse_known_args(argv)
        if arguments.command is None:
            unknown = _unknown_arguments(extras, known=[])
            if unknown:
                raise SettingsError(unknown)
            parser.print_help(sys.stderr)
            return 2
        if arguments.command == "refusals":
            return _refusals(arguments, extras)
        if arguments.command in cluster_cli.COMMANDS:
            resolution = _resolve(arguments, extras, os.environ)
            return cluster_cli.run(arguments, resolution.settings().broker, _complain)
        if getattr(arguments, "markdown", False):
            sys.stdout.write(markdown())
            return 0
        resolution = _resolve(arguments, extras, os.environ)
        if arguments.command == "serve":
            return _serve(resolution.settings(), list(sys.argv[1:] if argv is None else argv))
        if arguments.command == "workers":
            return _workers(resolution.settings(), as_json=arguments.json)
        sys.stdout.write(_as_json(resolution) if arguments.json else _as_table(resolution))
        return 0
    except SettingsError as exc:
        complain_of(exc)
        return 2
    except KeyboardInterrupt:
        return 130


# --- Commands


def serve_settings(argv: Sequence[str], environ: Mapping[str, str]) -> Settings:
    """Those of a command line that serves: what a worker begins with. Raises: SettingsError."""
    arguments, extras = _parser().parse_known_args(argv)
    return _resolve(arguments, extras, environ).settings()


def complain_of(error: SettingsError) -> None:
    """On standard error, a line for each problem."""
    for problem in error.problems:
        _complain(str(problem))


def _serve(settings: Settings, argv: Sequence[str]) -> int:
    logs.configure(settings.log_format, settings.log_level)
    try:
        if settings.is_supervised:
            from gateway.app import supervise  # here, so that --help and config need not load the server

            return supervise(settings, argv)
        from gateway.app import serve

        serve(settings)
    except OSError as exc:
        _log.debug("serve failed", exc_info=True)
        _complain(_os_problem(exc, settings))
        return 1
    return 0


def _workers(settings: Settings, *, as_json: bool) -> int:
    from gateway.workers import control, report, runtime_dir

    folder = runtime_dir.base(settings.runtime_dir, os.environ)
    answers = [answer for path in runtime_dir.controls(folder) if (answer := control.ask(path)) is not None]
    if not answers:
        _complain(f"no gateway with workers runs under {folder} (--runtime-dir)")
        return 1
    sys.stdout.write(json.dumps(answers, indent=2) + "\n" if as_json else report.as_table(answers))
    return 0


def _refusals(arguments: argparse.Namespace, extras: Sequence[str]) -> int:
    from gateway import refusal_docs  # here, since only this command needs the catalogue

    name: str | None = arguments.name
    problems = _unknown_arguments(extras, arguments.flags, "refusals", "NAME")
    if name is not None and arguments.markdown:
        problems.append(Problem(name, name, "--markdown writes the page of all refusals; leave the name out"))
    elif name is not None and name not in refusal_docs.BY_NAME:
        problems.append(Problem(name, name, f"there is no such refusal{refusal_docs.hint(name)}"))
    if problems:
        raise SettingsError(problems)
    if arguments.markdown:
        text = refusal_docs.markdown()
    elif name is None:
        text = refusal_docs.as_json() if arguments.json else refusal_docs.as_table()
    else:
        row = refusal_docs.BY_NAME[name]
        text = refusal_docs.as_json([row]) if arguments.json else refusal_docs.as_text(row)
    sys.stdout.write(text)
    return 0


def _os_problem(exc: OSError, settings: Settings) -> str:
    address = f"[{settings.host}]:{settings.port}" if ":" in settings.host else f"{settings.host}:{settings.port}"
    reasons = {
        errno.EADDRINUSE: "the address is in use; stop what listens there or choose another --port",
        errno.EADDRNOTAVAIL: "this machine has no such address; choose another --host",
    }
    if settings.port < 1024:
        reasons[errno.EACCES] = "permission denied; ports below 1024 need privileges, choose another --port"
    if isinstance(exc, socket.gaierror):
        return f"cannot listen on {address}: the host name is not known ({exc.strerror})"
    if exc.errno in reasons:
        return f"cannot listen on {address}: {reasons[exc.errno]}"
    return f"cannot serve on {address}: {exc}"


def _as_table(resolution: Resolution) -> str:
    rows = {
        name: (name, escape(each.show(resolution.values[name])), escape(str(resolution.sources[name])))
        for name, each in BY_NAME.items()
    }
    widths = [max(len(row[column]) for row in rows.values()) for column in (0, 1)]
    lines: list[str] = []
    for group in GROUPS:
        lines += ["", f"[{group}]"] if lines else [f"[{group}]"]
        for each in in_group(group):
            name, value, source = rows[each.name]
            lines.append(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}")
    return "\n".join(lines) + "\n"


def _as_json(resolution: Resolution) -> str:
    """An object per table; per setting its plain value, the kind of its source and, if any, its place."""
    tables: dict[str, dict[str, object]] = {}
    for group in GROUPS:
        tables[group] = {}
        for each in in_group(group):
            source = resolution.sources[each.name]
            tables[group][each.name] = {
                "value": each.kind.plain(resolution.values[each.name]),
                "source": source.kind,
                "place": source.place or None,
            }
    return json.dumps(tables, indent=2) + "\n"


# --- Settings from this process's flags, environment and folder


def _resolve(arguments: argparse.Namespace, extras: Sequence[str], environ: Mapping[str, str]) -> Resolution:
    """The settings with their sources. Raises: SettingsError with every problem there is."""
    argv_values = {name: value for name, value in vars(arguments).items() if name in BY_NAME}
    problems = _unknown_arguments(extras, known=arguments.flags)
    if any(extra.startswith("-") for extra in extras):
        argv_values.pop("app", None)  # it may be the value of the option that is not known
    file: ConfigFile | None = None
    try:
        file = _find_file(arguments.config, environ)
    except SettingsError as exc:
        problems += exc.problems
    resolution = resolve(argv_values, environ, file)
    problems += resolution.problems
    if not {problem.name for problem in problems} & set(TLS_NAMES):
        problems += _tls_problems(resolution)
    if problems:
        raise SettingsError(problems)
    return resolution


def _find_file(flag: str | None, environ: Mapping[str, str]) -> ConfigFile | None:
    if flag is not None:
        return read_file(Path(flag), "--config")
    if environ.get(CONFIG_VARIABLE):
        return read_file(Path(environ[CONFIG_VARIABLE]), CONFIG_VARIABLE)
    if os.path.lexists(DEFAULT_FILE):
        return read_file(Path(DEFAULT_FILE), f"./{DEFAULT_FILE}")
    return None


def _tls_problems(resolution: Resolution) -> list[Problem]:
    try:
        Settings(**cast("dict[str, Any]", {name: resolution.values[name] for name in TLS_NAMES})).ssl_context()
    except SettingsError as exc:
        return [replace(problem, where=resolution.locate(problem.name)) for problem in exc.problems]
    return []


def _unknown_arguments(
    extras: Sequence[str], known: Sequence[str], command: str = "serve", positional: str = "APP"
) -> list[Problem]:
    options = [extra.partition("=")[0] for extra in extras if extra.startswith("-")]
    if options:
        known = [*known, "--help", "--version"]
        return [
            Problem(option, option, f"there is no such option{_hint(option, known, command)}") for option in options
        ]
    return [Problem(extra, extra, f"is one argument too many; there can be one {positional}") for extra in extras]


def _hint(option: str, known: Sequence[str], command: str) -> str:
    # `--ping-interval` is closer in meaning to `--ping-interval-s` than any distance of letters says.
    longer = [flag for flag in known if flag.startswith(option)]
    hint = f"; did you mean {longer[0]!r}?" if len(longer) == 1 else did_you_mean(option, known)
    return hint or f"; `tidegate {command} --help` lists those that there are"


# --- The command line


class _Parser(argparse.ArgumentParser):
    """Tells errors in one line, as every other problem is told."""

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '(.*?)'", message)
        _complain(message + (did_you_mean(wrong[1], COMMANDS) if wrong else ""))
        self.exit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tidegate",
        description="A Socket.IO gateway: WebSocket, xhr-streaming and long-polling.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"tidegate {_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    serve = commands.add_parser(
        "serve",
        usage="tidegate serve [OPTION ...] [APP]",
        help="run the gateway until SIGTERM or SIGINT",
        description="Run the gateway until SIGTERM or SIGINT, then let clients leave and stop.",
        **_style(),
    )
    config = commands.add_parser(
        "config",
        usage="tidegate config [--json] [OPTION ...] [APP]",
        help="check and print the settings in effect, and where each came from",
        description="Check the settings and print those in effect, with where each came from.",
        **_style(),
    )
    config.add_argument("--json", action="store_true", help="print JSON; times in seconds, sizes in bytes")
    config.add_argument("--markdown", action="store_true", help=argparse.SUPPRESS)
    for command in (serve, config):
        command.add_argument("--config", metavar="FILE", help=f"TOML file with settings (${CONFIG_VARIABLE})")
        command.set_defaults(flags=["--config", "--json", *_add_settings(command)])
    workers = commands.add_parser(
        "workers",
        usage="tidegate workers [--json] [--runtime-dir DIR]",
        help="show the workers of the gateways that run here",
        description="Show the workers of the gateways that run on this host under our user: what they are doing, and "
        "what all of them have done. Memory is in bytes and CPU in seconds with --json.",
        allow_abbrev=False,
    )
    workers.add_argument("--json", action="store_true", help="print JSON: an object for each gateway")
    workers.add_argument("--config", metavar="FILE", help=f"TOML file with settings (${CONFIG_VARIABLE})")
    folder = BY_NAME["runtime_dir"]
    workers.add_argument(folder.flag, default=argparse.SUPPRESS, metavar="DIR", help=_describe(folder))
    workers.set_defaults(flags=["--config", "--json", folder.flag])
    refusals = commands.add_parser(
        "refusals",
        usage="tidegate refusals [--json | --markdown] [NAME]",
        help="list what the gateway refuses, and what the client is told",
        description="List the refusals: the name under which each is counted and logged, the HTTP status and WebSocket "
        "close code, whether the client should come back (no, anew, later), and what it is told.",
        allow_abbrev=False,
    )
    refusals.add_argument("name", nargs="?", metavar="NAME", help="show this one in full")
    form = refusals.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print the page docs/refusals.md")
    refusals.set_defaults(flags=["--json", "--markdown"])
    cluster_cli.add_commands(commands, _add_broker)
    return parser


def _add_broker(command: argparse.ArgumentParser) -> list[str]:
    """Add what tells where the broker is, and return its flags."""
    broker = BY_NAME["broker"]
    command.add_argument("--config", metavar="FILE", help=f"TOML file with settings (${CONFIG_VARIABLE})")
    described = _describe(broker).replace("%", "%%")
    command.add_argument(broker.flag, default=argparse.SUPPRESS, metavar=broker.kind.metavar, help=described)
    return ["--config", broker.flag]


def _style() -> dict[str, Any]:
    return {"epilog": EPILOG, "formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}


def _add_settings(command: argparse.ArgumentParser) -> list[str]:
    """Add an option for each setting, and return all their spellings."""
    flags: list[str] = []
    for group, title in GROUPS.items():
        section = command.add_argument_group(f"[{group}] {title}")
        for each in in_group(group):
            described = _describe(each).replace("%", "%%")
            if each.is_positional:
                options: dict[str, Any] = {"nargs": "?", "metavar": each.flag}
            elif isinstance(each.kind, Switch):
                options = {"action": argparse.BooleanOptionalAction}
            else:
                options = {"metavar": each.kind.metavar}
            name = each.name if each.is_positional else each.flag
            action = section.add_argument(name, default=argparse.SUPPRESS, help=described, **options)
            flags += action.option_strings
    return flags


def _describe(each: Setting) -> str:
    default = "not set" if each.default is None else each.show(each.default)
    bounds = "" if isinstance(each.kind, Switch) else f"{each.kind.bounds}; "
    return f"{each.text} ({bounds}default: {default}; ${each.variable})"


def _version() -> str:
    try:
        return importlib.metadata.version("tidegate")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads standard error; the exit code still tells
        sys.stderr.write(f"tidegate: {escape(text)}\n")
