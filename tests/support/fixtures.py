"""Fixtures of several suites; ``tests/conftest.py`` makes them known."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from aiohttp.http_exceptions import HttpProcessingError

from .servers import ServerPool, ServerProcess, server_pool


@pytest.fixture(scope="session")
def _server_pool() -> Iterator[ServerPool]:
    with server_pool() as pool:
        yield pool


@pytest.fixture
def server_process(_server_pool: ServerPool) -> Iterator[Callable[..., ServerProcess]]:
    """Starts ``ServerProcess(**options)``, shared by all tests that ask for the same options.

    The test fails where the server logs a traceback meanwhile.
    """
    yield _server_pool.get
    _server_pool.check_logs()


@pytest.fixture
def no_logged_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The test fails where this process logs an error, as a server inside it does for unexpected exceptions.

    With each request that is no HTTP, aiohttp logs one of its parser's.
    """
    yield
    errors = [
        record
        for record in caplog.get_records("call")
        if record.levelno >= logging.ERROR
        and not (record.name == "aiohttp.server" and record.exc_info and _is_no_http(record.exc_info[1]))
    ]
    if errors:
        text = "\n".join(logging.Formatter().format(record) for record in errors)
        pytest.fail(f"errors were logged:\n{text}", pytrace=False)


def _is_no_http(error: BaseException | None) -> bool:
    return isinstance(error, HttpProcessingError)
