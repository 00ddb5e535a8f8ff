"""Log lines for people or for programs, on standard error, one record each.

What a client sends may end up in a message, so neither format lets a record begin a line that it does not
own: control characters are escaped, and in text the lines of a traceback are indented.
"""

from __future__ import annotations

import datetime
import json
import logging
import math
import sys
from collections.abc import Iterator, Mapping
from typing import Final, Literal

# Loggers of the libraries below us, which may come with handlers and levels of their own.
LIBRARIES: Final = ("aiohttp", "asyncio", "engineio", "socketio", "uvloop", "py.warnings")

# These two log every packet at INFO. A level that is set also keeps them from adding a handler of their own,
# which they do when they are constructed and find none.
_PER_PACKET: Final = ("engineio.server", "engineio.client", "socketio.server", "socketio.client")

_OWN_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_MAX_DEPTH: Final = 8

_ESCAPES: Final = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))
} | {
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    # Line and paragraph separators, and the marks that turn the direction of text.
    **{code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))},
}  # fmt: skip


def configure(log_format: Literal["text", "json"] | str, level: str, *, worker: str | None = None) -> None:
    """Send all logging of the process to standard error in one format. May be called again.

    level: debug, info, warning or error
    worker: which one of several this process is; then each record says so
    """
    handler = logging.StreamHandler(sys.stderr)
    if worker is not None:

        def name_worker(record: logging.LogRecord) -> bool:
            record.worker = worker
            return True

        handler.addFilter(name_worker)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    number = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(number)
    for name in _library_loggers():
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    for name in _PER_PACKET:
        logging.getLogger(name).setLevel(number if number <= logging.DEBUG else max(number, logging.WARNING))
    logging.captureWarnings(True)


def _library_loggers() -> set[str]:
    existing = {name for name in logging.root.manager.loggerDict if name.partition(".")[0] in LIBRARIES}
    return existing | set(LIBRARIES)


class TextFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.000Z INFO gateway.app listening port=8000`, tracebacks indented below."""

    def format(self, record: logging.LogRecord) -> str:
        words = [_timestamp(record), record.levelname, escape(record.name), escape(_message(record))]
        extras = _extras(record)
        if record.name == "aiohttp.access":  # its message holds all of its own
            extras = ((key, value) for key, value in extras if key == "worker")
        words += [f"{escape(key)}={_word(value)}" for key, value in extras]
        lines = [" ".join(word for word in words if word)]
        for text in (_traceback(self, record), record.stack_info):
            if text:
                lines += ["    " + escape(line) for line in text.split("\n")]
        return "\n".join(lines)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ts, level, logger, message, the extras by name, and exception and stack if any.

    An extra that has the name of one of these gets an underscore behind it.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "ts": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
        }
        reserved = {*fields, "exception", "stack"}
        for key, value in _extras(record):
            fields[f"{key}_" if key in reserved else key] = _plain(value)
        traceback = _traceback(self, record)
        if traceback:
            fields["exception"] = traceback
        if record.stack_info:
            fields["stack"] = record.stack_info
        return json.dumps(fields, allow_nan=False)


def escape(text: str) -> str:
    """`text` with its control characters written out, so that it stays on one line."""
    return text.translate(_ESCAPES)


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001  a log call with wrong arguments must not lose what it has to say
        return f"{_safe_str(record.msg)} (arguments: {_safe_str(record.args)})"


def _extras(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    return ((str(key), value) for key, value in vars(record).items() if key not in _OWN_ATTRIBUTES)


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    if record.exc_info and record.exc_info[0] is not None:
        return formatter.formatException(record.exc_info)
    return record.exc_text


def _word(value: object) -> str:
    """The value as text, in quotes where it would otherwise not read as one word."""
    text = escape(value if isinstance(value, str) else _safe_str(value))
    if text and not any(character in text for character in ' "='):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def _plain(value: object, depth: int = 0) -> object:
    """The value in what JSON has; whatever JSON has no form for becomes text."""
    if value is None or isinstance(value, (bool, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int) and value.bit_length() <= 64:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if depth < _MAX_DEPTH:
        if isinstance(value, Mapping):
            return {_safe_str(key): _plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [_plain(item, depth + 1) for item in value]
    return _safe_str(value)


def _safe_str(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001  a broken __str__ must not lose the record
        return f"<{type(value).__name__} that cannot be shown>"
