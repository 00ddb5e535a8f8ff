"""Every row of the catalogues is one that can be kept."""

from __future__ import annotations

import logging
import re
from string import Formatter

import pytest

from gateway.catalogue import ROWS
from transports import catalogue, reasons
from transports.counters import Counters
from transports.protocol import frames
from transports.refusal_log import RefusalLog
from transports.refusals import Door, Ends, ErrorCode, Refusal, Retry

#: What messages may name. Each is a number, a word of ours, or what the peer itself has said.
FIELDS = {
    "worker",
    "ack_id",
    "address",
    "allowed",
    "current",
    "event",
    "expected",
    "fault",
    "hint",
    "limit",
    "name",
    "namespace",
    "number",
    "origin",
    "rate",
    "text",
    "transport",
    "type",
    "wanted",
}
#: RFC 9110, section 15, and RFC 6585; those that have a meaning for a refusal.
STATUSES = {400, 401, 403, 404, 408, 413, 414, 415, 426, 429, 431, 503}

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def fields_of(row: Refusal) -> set[str]:
    return {field for _, field, _, _ in Formatter().parse(row.message) if field is not None}


def test_names_are_unique_identifiers() -> None:
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names))
    assert [name for name in names if not re.fullmatch(r"[a-z][a-z0-9_]*", name)] == []


def test_the_rows_below_socketio_come_first_and_are_all_there() -> None:
    assert ROWS[: len(catalogue.ROWS)] == catalogue.ROWS
    assert {row.door for row in catalogue.ROWS} == {Door.HTTP, Door.WEBSOCKET, Door.ENGINE}
    assert {row.door for row in ROWS[len(catalogue.ROWS) :]} == {Door.SOCKET}


@each_row
def test_status_and_code_come_together(row: Refusal) -> None:
    assert (row.status is None) == (row.code is None)
    if row.status is not None:
        assert row.status in STATUSES
        assert row.code in set(ErrorCode)


@each_row
def test_close_code_may_be_sent_by_a_server(row: Refusal) -> None:
    if row.close_code is None:
        return
    assert row.close_code != 1010, "RFC 6455, section 7.4.1: of clients only"
    # A peer that is as strict as we are takes it, with its reason.
    reason = frames.encode_close(row.close_code, row.message)[2:]
    assert frames.decode_close(reason)[0] == row.close_code


@each_row
def test_message_names_known_fields_and_is_one_line(row: Refusal) -> None:
    assert fields_of(row) <= FIELDS, "name it in FIELDS if the client may see it"
    assert row.message.isprintable()
    assert row.message
    assert row.when.isprintable()
    text = row.text(**dict.fromkeys(fields_of(row), "{x}%s"))
    assert text.count("{x}%s") == sum(field is not None for _, field, _, _ in Formatter().parse(row.message))


@each_row
def test_what_ends_fits_the_answer(row: Refusal) -> None:
    if row.ends is Ends.SESSION:
        assert row.reason is not None, "disconnect handlers are told a reason"
    else:
        assert row.reason is None
    if row.ends is Ends.REQUEST:
        assert (row.door, row.close_code) == (Door.HTTP, None)
        assert row.status is not None
    if row.ends is Ends.UPGRADE:
        assert row.status is not None
        assert row.close_code is not None
    if row.ends in (Ends.NAMESPACE, Ends.MESSAGE, Ends.ANSWERED):
        assert (row.door, row.status, row.close_code) == (Door.SOCKET, None, None)


@each_row
def test_coming_back_fits_the_answer(row: Refusal) -> None:
    if row.status in (429, 503):
        assert row.retry is Retry.LATER, "these statuses say that it is over after a while"
    if row.retry is Retry.LATER and row.status is not None:
        assert row.status in (429, 503), "an answer with Retry-After"
    if row.ends in (Ends.UPGRADE, Ends.MESSAGE):
        assert row.retry is Retry.NO, "there is nothing to come back to"


@each_row
def test_reason_is_one_that_is_known(row: Refusal) -> None:
    known = {value for name, value in vars(reasons).items() if name.isupper()}
    assert row.reason is None or row.reason in known


def test_reasons_find_their_row() -> None:
    closings = [row for row in ROWS if row.reason not in (None, reasons.PARSE_ERROR)]
    assert {row.reason: row for row in closings} == dict(catalogue.CLOSINGS)
    assert len(closings) == len(catalogue.CLOSINGS), "two rows have the same reason"


@each_row
def test_counters_and_log_take_it(row: Refusal, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tidegate.refusals")
    counters = Counters()
    counters.refused[row.name] += 1
    message = row.text(**dict.fromkeys(fields_of(row), "7"))
    RefusalLog().note(row, message, "192.0.2.1", 0.0)
    assert counters.refused == {row.name: 1}
    [record] = caplog.records
    assert record.levelno == row.level
    assert record.exc_info is None
    assert record.getMessage() == f"refused {row.name} from 192.0.2.1: {message}"
