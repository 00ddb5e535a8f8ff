"""Pages that share one connection by a SharedWorker, in headless Chromium."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.node_scripts import run_concern
from tests.support.servers import ServerProcess

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def result() -> Any:
    with ServerProcess(module="tests.support.channels") as server:
        return run_concern("worker", url=server.url, seconds=110)


def test_pages_have_one_connection_and_one_subscription(result: Any) -> None:
    assert result["clients"] == 1
    assert result["subscribers"] == 1
    assert result["errors"] == []


def test_each_page_hears_each_event_once(result: Any) -> None:
    assert result["seen"]["one"]["said"] == ["hello", "x", "x", "x"]
    assert result["seen"]["three"]["said"] == ["hello", "x", "x", "x"]


def test_publications_go_to_the_pages_that_subscribe_each_once_also_after_a_loss(result: Any) -> None:
    assert result["seen"]["one"]["publications"] == ["one", "two", "three"]
    assert result["seen"]["three"]["publications"] == []
    assert result["afterLoss"] == {"clients": 1, "subscribers": 1}


def test_answers_go_to_the_page_that_asked(result: Any) -> None:
    assert result["answers"] == [1, 2, 3]


def test_a_page_that_closes_leaves_nothing_behind(result: Any) -> None:
    assert result["afterClose"] == {"clients": 1, "unsubscribed": 1}


def test_a_page_that_crashes_leaves_nothing_behind(result: Any) -> None:
    assert result["afterCrash"] == {"clients": 1}


def test_without_a_shared_worker_the_page_has_its_own_connection_and_says_so(result: Any) -> None:
    assert result["without"]["clients"] == 2
    assert "SharedWorker" in result["without"]["reason"]
