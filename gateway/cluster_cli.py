"""The part of the command that speaks to a running cluster: its options, its output and its failures."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from .logs import escape
from .setting_problems import Problem, SettingsError

COMMANDS: Final = ("nodes", "sockets", "emit", "tail")


def add_commands(commands: Any, add_common: Callable[[argparse.ArgumentParser], list[str]]) -> None:
    """``add_common``: adds what tells where the broker is, and returns its flags."""
    nodes = commands.add_parser(
        "nodes",
        usage="tidegate nodes [--json] --broker URL",
        help="list the servers of a running cluster",
        description="List the servers that are joined by a broker, with their clients.",
        allow_abbrev=False,
    )
    sockets = commands.add_parser(
        "sockets",
        usage="tidegate sockets [--room ROOM] [--namespace NAME] [--json] --broker URL",
        help="list the clients of a running cluster",
        description="List the clients of a namespace, or of a room in it, on all servers.",
        allow_abbrev=False,
    )
    emit = commands.add_parser(
        "emit",
        usage="tidegate emit [--room ROOM] [--namespace NAME] --broker URL EVENT [JSON ...]",
        help="send an event to clients of a running cluster",
        description="Send an event to everybody in a namespace, or to a room or one client of it. Each argument is "
        "JSON: 7, true, '\"text\"', '{\"a\": [1]}'.",
        allow_abbrev=False,
    )
    emit.add_argument("event", metavar="EVENT", help="name of the event")
    emit.add_argument("arguments", metavar="JSON", nargs="*", help="its arguments, each as JSON")
    tail = commands.add_parser(
        "tail",
        usage="tidegate tail [--namespace NAME] [--json] --broker URL [ROOM]",
        help="show what servers of a running cluster send to a room",
        description="Show the events that go over the broker to a room, or without one to a whole namespace, until it "
        "is interrupted. What a server sends to one client of its own needs no broker, and is not shown.",
        allow_abbrev=False,
    )
    tail.add_argument("room", metavar="ROOM", nargs="?", help="a room, or the sid of a client")
    for command in (sockets, emit):
        command.add_argument("--room", metavar="ROOM", help="a room, or the sid of a client; not given: everybody")
    for command in (sockets, emit, tail):
        command.add_argument("--namespace", metavar="NAME", default="/", help="Socket.IO namespace (default: /)")
    for command in (nodes, sockets, emit, tail):
        flags = add_common(command)
        if command is not emit:
            command.add_argument("--json", action="store_true", help="print JSON, for tail an object a line")
        own = ["--room"] if command in (sockets, emit) else []
        command.set_defaults(flags=["--json", "--namespace", *own, *flags])


def run(arguments: argparse.Namespace, broker: str | None, complain: Callable[[str], None]) -> int:
    """The exit code: 1 where the cluster cannot be asked. Raises: SettingsError."""
    if broker is None:
        raise SettingsError([Problem("broker", "--broker", "is needed: the URL of the cluster's broker")])
    if broker.startswith("memory:"):
        raise SettingsError([Problem("broker", "--broker", "memory: joins servers of one process, not this command")])
    namespace = getattr(arguments, "namespace", "/")
    if not namespace.startswith("/"):
        raise SettingsError([Problem("--namespace", "--namespace", f"begins with a slash, not {namespace!r}")])
    from . import cluster_commands as cluster  # here, since no other command needs the server

    try:
        if arguments.command == "nodes":
            _print(cluster.run(broker, cluster.nodes), arguments.json, _nodes_table)
        elif arguments.command == "sockets":
            room = arguments.room
            rows = cluster.run(broker, lambda emitter: cluster.sockets(emitter, namespace, room))
            _print(rows, arguments.json, _sockets_table)
        elif arguments.command == "emit":
            values = cluster.parse_arguments(arguments.arguments)
            event, room = arguments.event, arguments.room
            cluster.run(broker, lambda emitter: cluster.emit(emitter, event, values, namespace, room))
        else:
            show = _show_json if arguments.json else _show
            cluster.run(broker, lambda emitter: cluster.tail(emitter, namespace, arguments.room, show))
    except cluster.ClusterCommandError as error:
        complain(str(error))
        return 1
    return 0


def _print(rows: list[dict[str, Any]], as_json: bool, table: Callable[[list[dict[str, Any]]], str]) -> None:
    sys.stdout.write(json.dumps(rows, indent=2) + "\n" if as_json else table(rows))


def _nodes_table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "no server is joined by this broker\n"
    head = ("NODE", "HOST", "PID", "VERSION", "UP", "CLIENTS")
    now = time.time()
    return _columns(
        head,
        [
            (
                str(row["id"]),
                str(row.get("host", "?")),
                str(row.get("pid", "?")),
                str(row.get("version") or "?"),
                _age(now - row["started"]) if isinstance(row.get("started"), int) else "?",
                "no answer" if row["clients"] is None else str(row["clients"]),
            )
            for row in rows
        ],
    )


def _sockets_table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "nobody is there\n"
    head = ("NODE", "SID", "TRANSPORT", "ADDRESS", "ROOMS")
    return _columns(
        head,
        [
            (
                row["node"],
                row["sid"],
                row["transport"],
                str(row["handshake"].get("address", "?")),
                " ".join(room for room in row["rooms"] if room != row["sid"]),
            )
            for row in rows
        ],
    )


def _columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = [[escape(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join(lines) + "\n"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def _show(row: dict[str, Any]) -> None:
    if "event" in row:
        values = " ".join(json.dumps(value, default=_binary, ensure_ascii=False) for value in row["arguments"])
        text = f"{row['event']} {values}".rstrip()
    else:
        text = f"({row['does']})"
    rooms = ",".join(row["rooms"]) or "*"
    sys.stdout.write(escape(f"{row['node']}  {rooms}  {text}") + "\n")
    sys.stdout.flush()


def _show_json(row: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(row, default=_binary) + "\n")
    sys.stdout.flush()


def _binary(value: Any) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)
