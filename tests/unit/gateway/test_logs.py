"""One record, one line: whatever is in it."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import warnings
from collections.abc import Iterator

import engineio
import pytest
import socketio

from gateway import logs


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    names = [*logs._library_loggers(), *logs._PER_PACKET]
    handlers, level = root.handlers[:], root.level
    before = {name: (logging.getLogger(name).handlers[:], logging.getLogger(name).level) for name in names}
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, (own, own_level) in before.items():
        logging.getLogger(name).handlers[:] = own
        logging.getLogger(name).setLevel(own_level)


class Stderr:
    """What has been written to standard error."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._written = ""

    def getvalue(self) -> str:
        self._written += self._capsys.readouterr().err
        return self._written


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Stderr:
    return Stderr(capsys)


def objects(stream: Stderr) -> list[dict[str, object]]:
    def refuse(constant: str) -> object:
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in stream.getvalue().splitlines()]


def test_a_text_line_has_time_level_logger_message_and_extras(stderr: Stderr) -> None:
    logs.configure("text", "info")
    logging.getLogger("gateway.x").info("client %s left", 7, extra={"reason": "too slow", "room": "a", "n": 3})
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO gateway\.x client 7 left"
        r' reason="too slow" room=a n=3\n',
        stderr.getvalue(),
    )


def test_a_json_line_is_one_object(stderr: Stderr) -> None:
    logs.configure("json", "info")
    logging.getLogger("gateway.x").warning("client %s left", 7, extra={"room": "a", "n": 3, "ok": True})
    (line,) = objects(stderr)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line.pop("ts")))
    assert line == {
        "level": "warning",
        "logger": "gateway.x",
        "message": "client 7 left",
        "room": "a",
        "n": 3,
        "ok": True,
    }


BREAKS = "a\nb\r\nc\u2028d\u2029e\x85f\x0bg\x0ch\x1b[31mi\x00j\x1ck\x7f"


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_breaks_in_messages_extras_and_names_stay_on_the_line(stderr: Stderr, log_format: str) -> None:
    logs.configure(log_format, "info")
    logging.getLogger(f"gateway{BREAKS}").info("x%s", BREAKS, extra={"k" + BREAKS: BREAKS, "list": [BREAKS]})
    written = stderr.getvalue()
    assert written.endswith("\n")
    assert len(written.splitlines()) == 1
    assert all(character.isprintable() for character in written[:-1])


def test_json_gives_breaks_back_as_they_were(stderr: Stderr) -> None:
    logs.configure("json", "info")
    logging.getLogger("gateway").info(BREAKS, extra={"k": BREAKS})
    (line,) = objects(stderr)
    assert (line["message"], line["k"]) == (BREAKS, BREAKS)


def test_extras_that_json_has_no_form_for_become_text(stderr: Stderr) -> None:
    logs.configure("json", "info")
    loop: list[object] = []
    loop.append(loop)
    extras = {
        "nan": math.nan,
        "big": 1 << 100,
        "huge": 1 << 99999,
        "bytes": b"\xff",
        "keys": {(1, 2): {3}},
        "loop": loop,
        "broken": Unprintable(),
        "surrogate": "\udcff",
        "error": ValueError("v"),
        "ts": "mine",
        "exception": "mine",
    }
    logging.getLogger("gateway").info("x", extra=extras)
    (line,) = objects(stderr)
    assert line["nan"] == "nan"
    assert line["big"] == str(1 << 100)
    assert line["bytes"] == "b'\\xff'"
    assert line["keys"] == {"(1, 2)": [3]}
    assert line["broken"] == "<Unprintable that cannot be shown>"
    assert line["error"] == "v"
    assert line["ts_"] == "mine"
    assert line["exception_"] == "mine"
    assert "mine" not in (line["ts"], line.get("exception"))


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_log_call_with_wrong_arguments_is_still_written(stderr: Stderr, log_format: str) -> None:
    logs.configure(log_format, "info")
    logging.getLogger("gateway").info("one %d", "two")
    logging.getLogger("gateway").info("%s", Unprintable())
    lines = stderr.getvalue().splitlines()
    assert len(lines) == 2
    assert "one %d" in lines[0]
    assert "two" in lines[0]


def test_the_lines_of_a_traceback_are_indented_in_text(stderr: Stderr) -> None:
    logs.configure("text", "info")
    try:
        raise ValueError("bad\x1b[2K\r\n2026-01-01T00:00:00.000Z INFO gateway forged")
    except ValueError:
        logging.getLogger("gateway").exception("failed")
    first, *rest = stderr.getvalue().splitlines()
    assert first.endswith("ERROR gateway failed")
    assert len(rest) >= 4
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_a_traceback_is_a_field_in_json(stderr: Stderr) -> None:
    logs.configure("json", "info")
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        logging.getLogger("gateway").exception("failed", stack_info=True)
    (line,) = objects(stderr)
    assert str(line["exception"]).startswith("Traceback")
    assert str(line["exception"]).endswith("ValueError: bad\nvalue")
    assert str(line["stack"]).startswith("Stack")


@pytest.mark.parametrize(("text", "word"), [("", '""'), ("a=b", '"a=b"'), ('a "b"', '"a \\"b\\""'), ("a", "a")])
def test_text_values_are_quoted_where_they_would_be_misread(stderr: Stderr, text: str, word: str) -> None:
    logs.configure("text", "info")
    logging.getLogger("gateway").info("x", extra={"k": text})
    assert stderr.getvalue().endswith(f" x k={word}\n")


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_less_serious_records_are_left_out(stderr: Stderr, level: str, written: list[str]) -> None:
    logs.configure("json", level)
    for name in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger("gateway"), name)("x")
    assert [line["level"] for line in objects(stderr)] == written


def test_configuring_again_replaces_rather_than_adds(stderr: Stderr) -> None:
    logs.configure("text", "info")
    logs.configure("json", "info")
    logging.getLogger("gateway").info("x")
    assert len(objects(stderr)) == 1


@pytest.mark.parametrize("name", ["aiohttp.server", "asyncio", "engineio.server", "socketio.server", "uvloop"])
def test_loggers_of_libraries_write_one_line_in_our_format(stderr: Stderr, name: str) -> None:
    logger = logging.getLogger(name)
    logger.addHandler(logging.StreamHandler(sys.stderr))
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    logs.configure("json", "info")
    logger.warning("x")
    assert [line["logger"] for line in objects(stderr)] == [name]


@pytest.mark.parametrize("verbose", [True, False])
def test_servers_constructed_later_add_no_handler_of_their_own(stderr: Stderr, verbose: bool) -> None:
    logs.configure("json", "info")
    engineio.AsyncServer(logger=verbose)
    socketio.AsyncServer(logger=verbose)
    for name in ("engineio.server", "socketio.server"):
        logging.getLogger(name).info("each packet")
        logging.getLogger(name).error("failed")
    assert [line["message"] for line in objects(stderr)] == ["failed", "failed"]


def test_packets_are_logged_at_debug(stderr: Stderr) -> None:
    logs.configure("json", "debug")
    logging.getLogger("engineio.server").info("each packet")
    assert [line["message"] for line in objects(stderr)] == ["each packet"]


def test_warnings_are_logged(stderr: Stderr) -> None:
    logs.configure("json", "info")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("careful", UserWarning, stacklevel=1)
    (line,) = objects(stderr)
    assert line["logger"] == "py.warnings"
    assert "careful" in str(line["message"])


def test_the_access_log_does_not_repeat_itself_in_text(stderr: Stderr) -> None:
    logs.configure("text", "info")
    logging.getLogger("aiohttp.access").info("GET / 200", extra={"response_status": 200})
    assert stderr.getvalue().endswith("aiohttp.access GET / 200\n")
