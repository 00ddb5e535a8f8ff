"""The Autobahn cases, on our frame layer behind both hosts and on aiohttp's own WebSocket. See ``autobahn_cases``."""

from __future__ import annotations

import re

import pytest

from tests.conformance.autobahn_cases import Section, sections
from tests.conformance.autobahn_run import FAST, INSIDE, NON_STRICT, OK, PEER, RANK, run
from tests.support.servers import ROOT

SECTIONS = sections()
#: Text in one frame is checked when the frame is whole, not as its bytes come.
NOT_STRICT = {"6.4.3", "6.4.4"}


@pytest.mark.parametrize("section", SECTIONS.values(), ids=lambda section: section.name)
async def test_every_case_is_passed_at_least_as_well_as_by_aiohttp(section: Section, no_logged_errors: None) -> None:
    results = await run(section)
    for server in (FAST, INSIDE):
        wrong = [
            case
            for case in section.cases
            if results.verdict(server, case) != (NON_STRICT if case.id in NOT_STRICT else OK)
            or RANK[results.verdict(server, case)] < RANK[results.verdict(PEER, case)]
        ]
        assert not wrong, results.told(server, wrong)


def test_cases_have_numbers_of_their_own() -> None:
    cases = [case for section in SECTIONS.values() for case in section.cases]
    assert len({case.id for case in cases}) == len(cases)
    assert {case.id for case in cases} >= NOT_STRICT
    assert all(case.section == number for number, section in SECTIONS.items() for case in section.cases)


def test_table_in_the_documentation_has_these_cases() -> None:
    page = (ROOT / "docs/design/websocket.md").read_text()
    rows = dict(re.findall(r"^\| (\d+) [^|]+ \| (\d+) \|", page, re.MULTILINE))
    assert rows == {number: str(len(section.cases)) for number, section in SECTIONS.items()}
