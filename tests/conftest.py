"""Fixtures for every suite, and timeouts for slow machines (TEST_TIMEOUT_FACTOR)."""

import pytest

from tests.support.fixtures import _server_pool, no_logged_errors, server_process
from tests.support.waiting import TIMEOUT_FACTOR

__all__ = ["_server_pool", "no_logged_errors", "server_process"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if TIMEOUT_FACTOR == 1:
        return
    default = float(config.getini("timeout") or 0)
    for item in items:
        marker = item.get_closest_marker("timeout")
        seconds = float(marker.args[0]) if marker is not None and marker.args else default
        item.add_marker(pytest.mark.timeout(seconds * TIMEOUT_FACTOR), append=False)
