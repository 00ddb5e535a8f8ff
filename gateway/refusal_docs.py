"""The catalogue of refusals for people and programs: the reference page, a table for the terminal, JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from string import Formatter
from typing import Any, Final

from transports.refusal_log import MAX_LENGTH, MAX_LINES, WINDOW_S
from transports.refusals import RETRY_AFTER_S, Door, Ends, Refusal

from .catalogue import ROWS
from .setting_problems import did_you_mean

BY_NAME: Final = {row.name: row for row in ROWS}


def hint(name: str) -> str:
    """What somebody may have meant who wrote a name that there is not."""
    containing = [each for each in BY_NAME if name in each]
    if len(containing) == 1:
        return f"; did you mean {containing[0]!r}?"
    return did_you_mean(name, BY_NAME) or "; `tidegate refusals` lists those that there are"


def template(row: Refusal) -> str:
    """The message with its fields as ``{name}``: how Python formats them is nobody else's business."""
    return "".join(
        literal + ("" if field is None else f"{{{field}}}") for literal, field, _, _ in Formatter().parse(row.message)
    )


def as_json(rows: Iterable[Refusal] = ROWS) -> str:
    """``{"retry_after_s": …, "refusals": [{…}, …]}``; what a row does not have is null."""
    return json.dumps({"retry_after_s": RETRY_AFTER_S, "refusals": [_plain(row) for row in rows]}, indent=2) + "\n"


def _plain(row: Refusal) -> dict[str, Any]:
    return {
        "name": row.name,
        "door": row.door.value,
        "when": row.when,
        "message": template(row),
        "status": row.status,
        "code": None if row.code is None else int(row.code),
        "close_code": None if row.close_code is None else int(row.close_code),
        "ends": row.ends.name.lower(),
        "retry": row.retry.value,
        "reason": row.reason,
        "level": logging.getLevelName(row.level),
    }


# -- terminal ----------------------------------------------------------------------------------------------------


def as_table() -> str:
    """A line for each row, under the doors."""
    cells = [(row.name, _answer(row), row.retry.value, template(row)) for row in ROWS]
    widths = [max(len(each[column]) for each in cells) for column in range(3)]
    lines: list[str] = []
    for door in Door:
        lines += ["", f"[{door}]"] if lines else [f"[{door}]"]
        for row, (name, answer, retry, message) in zip(ROWS, cells, strict=True):
            if row.door is door:
                lines.append(f"{name:<{widths[0]}}  {answer:<{widths[1]}}  {retry:<{widths[2]}}  {message}")
    return "\n".join(lines) + "\n"


def _answer(row: Refusal) -> str:
    """The numbers that the client sees, in short."""
    if row.ends is Ends.NAMESPACE:
        return "CONNECT_ERROR"
    if row.ends is Ends.ANSWERED:
        return "ack"
    close_code = None if row.door is Door.HTTP else row.close_code
    return ", ".join(str(int(number)) for number in (row.status, close_code) if number is not None) or "-"


def as_text(row: Refusal) -> str:
    """One row in full."""
    facts = {
        "when": row.when.replace("`", ""),
        "door": row.door.value,
        "client sees": "; ".join(_sights(row)).replace("`", ""),
        "ends": row.ends.value,
        "come back": row.retry.value,
        "disconnect handler is told": row.reason or "-",
        "counted as": f"server.eio.counters.refused[{row.name!r}]",
        "logged at": logging.getLevelName(row.level),
    }
    width = max(map(len, facts))
    return f"{row.name}\n" + "".join(f"  {name:<{width}}  {fact}\n" for name, fact in facts.items())


# -- the reference page --------------------------------------------------------------------------------------------


def markdown() -> str:
    """The text of docs/refusals.md: `tidegate refusals --markdown > docs/refusals.md`."""
    return "\n".join(_markdown_lines()) + "\n"


_TOLD: Final = {
    "an HTTP request": 'the status, and as body `{"code": …, "message": "…"}`. The codes are those of the reference '
    "server. The message of a packet that was refused begins with a capital letter here",
    "an open WebSocket": "a close frame with the close code; its reason is the message, cut to 123 bytes",
    "a response of long-polling or xhr-streaming, open when the session ends": "the close packet `1`, which says no "
    "more. A `POST` that caused the end is answered with status and body as well",
    "joining a namespace": '`CONNECT_ERROR` with `{"message": "…"}`, and with `data` where the application gives some',
    "a message sent with `tidegate:once`": 'its ack, a number and `{"message": "…"}`: see '
    "[delivery-from-clients.md](delivery-from-clients.md)",
    "a WebSocket handshake": "status and body as for any request; but **browsers show a page nothing of them**, and "
    "the `ws` package of Node.js the status alone. Where the reason matters, begin with HTTP: stock clients do",
}

_PAGE_TOP: Final = f"""\
<!-- Written by `tidegate refusals --markdown > docs/refusals.md` from transports/catalogue.py, gateway/catalogue.py
and gateway/refusal_docs.py; edit there. -->

# Refusals

A *refusal* is the one answer to something that a client did wrong, or to a bound that it ran into. Each has a name.
Under this name

- it is **counted**: `server.eio.counters.refused["origin_refused"]`;
- it is **logged** by the logger `tidegate.refusals`: once for each name and client address in {WINDOW_S:.0f} seconds,
  and at most {MAX_LINES} lines in that time. What is left out is counted, and summed up in one line with the first
  refusal after that. A line has no traceback, no control characters and at most {MAX_LENGTH} characters of the message;
- it is **known to the browser**: `refusalOf(error)` of `tidegate-client` gives the row to an application
  (see [client_js/README.md](../client_js/README.md));
- it is **explained**: `tidegate refusals origin_refused` shows a row in full, `tidegate refusals` lists them all, with
  `--json` for programs.

## What a client sees

| where it is refused | what it is told |
| --- | --- |
{"".join(f"| {where} | {told} |" + chr(10) for where, told in _TOLD.items())}
Fields in braces are filled in. A client is never told a traceback.

## Whether to come back

- **no**: the same attempt will be refused again.
- **anew**: with a new session, after the usual back-off. It is what stock clients do by themselves.
- **later**: the refusal is over after a while. An HTTP answer says so by `Retry-After: {RETRY_AFTER_S}`; wait as long
  where there is no header.

## What ends

Where the session ends, the disconnect handlers of all its namespaces are called with the reason in the table.
A refused upgrade ends its own connection only: the session goes on with the transport that it has.
"""

_DOORS: Final = {
    Door.HTTP: "The request itself, before it concerns a session, and the handshake.",
    Door.WEBSOCKET: "The framing of RFC 6455.",
    Door.ENGINE: "Packets of Engine.IO, upgrades, and how long a session may live.",
    Door.SOCKET: "Packets of Socket.IO, namespaces, and messages that go nowhere.",
}


def _markdown_lines() -> Iterator[str]:
    yield _PAGE_TOP
    for door, about in _DOORS.items():
        yield f"## {door}\n"
        yield f"{about}\n"
        yield "| Name | When | What the client sees | What ends | Come back? | Log |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for row in ROWS:
            if row.door is door:
                cells = [
                    f"`{row.name}`",
                    row.when,
                    "<br>".join(_sights(row)),
                    _ending(row),
                    row.retry.value,
                    _level(row),
                ]
                yield f"| {' | '.join(map(_cell, cells))} |"
        if door is not list(_DOORS)[-1]:
            yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _level(row: Refusal) -> str:
    return logging.getLevelName(row.level).lower()


def _ending(row: Refusal) -> str:
    return f"{row.ends.value}: `{row.reason}`" if row.reason is not None else row.ends.value


def _sights(row: Refusal) -> list[str]:
    """Each way in which the client may learn of it."""
    message = template(row)
    if row.ends is Ends.MESSAGE:
        return ["nothing"]
    if row.ends is Ends.ANSWERED:
        return [f"ack: `{message}`"]
    if row.ends is Ends.NAMESPACE:
        return [f"`CONNECT_ERROR`: `{message}`"]
    found = []
    if row.status is not None:
        found.append(f"HTTP `{row.status}`, code `{row.code:d}`: `{message}`")
    if row.close_code is not None and row.door is not Door.HTTP:  # a session that takes requests has no WebSocket
        found.append(f"close code `{row.close_code:d}`" + ("" if found else f": `{message}`"))
    if row.ends is Ends.SESSION and row.door is not Door.WEBSOCKET and row.close_code is not None:
        found.append("close packet `1`")
    return found or ["nothing: the connection is cut"]
