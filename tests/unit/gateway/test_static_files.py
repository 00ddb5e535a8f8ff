"""The browser client's files."""

import gzip

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from gateway import static_files


def application() -> web.Application:
    app = web.Application()
    static_files.attach(app, "socket.io")
    return app


async def get(name: str, method: str = "GET", **headers: str) -> web.Response:
    request = make_mocked_request(
        method, f"/socket.io/{name}", {key.replace("_", "-"): value for key, value in headers.items()}
    )
    match = await application().router.resolve(request)
    response = await match.handler(request)
    assert isinstance(response, web.Response)
    await response.prepare(request)
    return response


@pytest.mark.parametrize("name", static_files.FILES)
async def test_file_is_served_with_type_and_tag(name: str) -> None:
    response = await get(name)
    assert response.status == 200
    assert response.headers["Content-Type"] == (
        "text/plain; charset=utf-8" if name.endswith(".txt") else "text/javascript; charset=utf-8"
    )
    assert response.headers["ETag"].strip('"').isalnum()
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert isinstance(response.body, bytes)
    assert len(response.body) > 500


async def test_file_that_the_browser_has_is_not_sent_again() -> None:
    tag = (await get("socket.io.js")).headers["ETag"]
    for given in (tag, f"W/{tag}", f'"other", {tag}'):
        response = await get("socket.io.js", If_None_Match=given)
        assert response.status == 304, given
        assert not response.body
        assert response.headers["ETag"] == tag
    for given in ('"other"', ""):
        assert (await get("socket.io.js", If_None_Match=given)).status == 200


async def test_file_is_compressed_for_browsers_that_take_it() -> None:
    response = await get("socket.io.js", Accept_Encoding="gzip")
    assert response.headers.get("Content-Encoding") == "gzip"
    assert isinstance(response._compressed_body, bytes)
    assert gzip.decompress(response._compressed_body) == response.body
    assert "Content-Encoding" not in (await get("socket.io.js")).headers


async def test_nodes_two_names_are_one_file() -> None:
    first, second = await get("socket.io.js"), await get("socket.io.min.js")
    assert first.headers["ETag"] == second.headers["ETag"]
    assert first.body == second.body


@pytest.mark.parametrize("path", ["socket.io", "/socket.io/", "/a/b"])
def test_files_lie_below_the_path(path: str) -> None:
    app = web.Application()
    static_files.attach(app, path)
    paths = {resource.canonical for resource in app.router.resources()}
    assert paths == {f"/{path.strip('/')}/{name}" for name in static_files.FILES}
