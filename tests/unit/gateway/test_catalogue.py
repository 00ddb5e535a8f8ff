"""What is written from the catalogue is current and whole: the page, the JSON, the table of the JavaScript client."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from gateway import refusal_docs
from gateway.catalogue import ROWS
from transports.refusals import RETRY_AFTER_S, Door, Ends, Refusal

ROOT = Path(__file__).resolve().parents[3]
TABLE = ROOT / "client_js" / "src" / "refusals-table.ts"

each_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_page_is_the_one_the_catalogue_makes() -> None:
    page = (ROOT / "docs" / "refusals.md").read_text(encoding="utf-8")
    assert page == refusal_docs.markdown(), "run: scripts/refusals"


def test_every_row_has_one_line_under_its_door() -> None:
    page = refusal_docs.markdown()
    for door in Door:
        section = page.partition(f"\n## {door}\n")[2].partition("\n## ")[0]
        lines = [cells(line) for line in section.splitlines() if line.startswith("| `")]
        assert [line[0] for line in lines] == [f"`{row.name}`" for row in ROWS if row.door is door]
        assert {len(line) for line in lines} == {6}


def test_pipes_and_line_ends_do_not_break_the_table() -> None:
    assert refusal_docs._cell("a | b\n c") == "a \\| b c"


@each_row
def test_the_page_says_what_the_client_sees(row: Refusal) -> None:
    [line] = [line for line in refusal_docs.markdown().splitlines() if line.startswith(f"| `{row.name}` |")]
    _, when, seen, ends, retry, level = cells(line)
    assert when == refusal_docs._cell(row.when)
    assert (f"`{row.status}`" in seen) == (row.status is not None)
    is_told = row.status is not None or row.close_code is not None or row.ends in (Ends.NAMESPACE, Ends.ANSWERED)
    assert (f"`{refusal_docs.template(row)}`" in seen) == is_told
    assert seen.startswith("nothing") != is_told
    assert seen.startswith("`CONNECT_ERROR`") == (row.ends is Ends.NAMESPACE)
    assert seen.startswith("ack: ") == (row.ends is Ends.ANSWERED)
    assert ends.startswith(row.ends.value)
    assert row.reason is None or f"`{row.reason}`" in ends
    assert (retry, level) == (row.retry.value, {20: "info", 30: "warning", 40: "error"}[row.level])


def test_json_holds_every_row() -> None:
    page = json.loads(refusal_docs.as_json())
    assert page["retry_after_s"] == RETRY_AFTER_S
    assert [row["name"] for row in page["refusals"]] == [row.name for row in ROWS]
    by_name = {row["name"]: row for row in page["refusals"]}
    assert by_name["reserved_event"]["message"] == "event name {name} is reserved", "not as Python formats it"
    assert by_name["unknown_transport"] == {
        "name": "unknown_transport",
        "door": "HTTP",
        "when": "`transport` is missing, or none that is offered",
        "message": "Transport unknown; allowed are {allowed}",
        "status": 400,
        "code": 0,
        "close_code": None,
        "ends": "request",
        "retry": "no",
        "reason": None,
        "level": "INFO",
    }


@pytest.mark.node
def test_the_table_of_the_javascript_client_is_the_one_the_catalogue_makes() -> None:
    made = subprocess.run(
        ["node", str(ROOT / "client_js" / "scripts" / "refusals.mjs")],
        input=refusal_docs.as_json(),
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=True,
    )
    assert TABLE.read_text(encoding="utf-8") == made.stdout, "run: scripts/refusals"


@each_row
def test_the_javascript_client_knows_what_it_can_be_told(row: Refusal) -> None:
    is_told = row.ends is Ends.NAMESPACE or (
        row.ends in (Ends.REQUEST, Ends.SESSION) and (row.status is not None or row.close_code is not None)
    )
    # The internal address of a cluster has no clients.
    is_told = is_told and not row.name.startswith("cluster_")
    entry = f"      {row.name}: {json.dumps(refusal_docs.template(row), ensure_ascii=False)},\n"
    assert (entry in TABLE.read_text(encoding="utf-8")) == is_told


def test_rows_that_a_client_cannot_tell_apart_ask_the_same_of_it() -> None:
    seen: dict[tuple[object, ...], Refusal] = {}
    for row in ROWS:
        text = re.sub(r"\{\w+\}", "{}", refusal_docs.template(row))
        answers = [(row.status, row.code)] if row.status is not None else []
        if row.close_code is not None and row.door is not Door.HTTP:
            answers.append((row.close_code, None))
        for answer in answers:
            other = seen.setdefault((*answer, text), row)
            assert (row.ends, row.retry) == (other.ends, other.retry), f"{row.name} and {other.name}"


@each_row
def test_one_row_is_shown_in_full(row: Refusal) -> None:
    text = refusal_docs.as_text(row)
    assert text.startswith(f"{row.name}\n")
    assert row.when.replace("`", "") in text
    assert row.ends.value in text
    assert f"refused['{row.name}']" in text
    assert "`" not in text


def test_a_wrong_name_gets_a_hint() -> None:
    assert refusal_docs.hint("orgin_refused") == "; did you mean 'origin_refused'?"
    assert refusal_docs.hint("origin") == "; did you mean 'origin_refused'?"
    assert refusal_docs.hint("xyz") == "; `tidegate refusals` lists those that there are"
