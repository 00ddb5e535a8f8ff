"""Nothing unfinished is left, and no file has grown beyond reading."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.guards.source_tree import ROOT, modules, tree

MAX_LINES = 700
#: Longer files, each with the reason why it is one.
LONG_FILES: dict[str, str] = {
    "tests/integration/test_router.py": "one suite over one API, which shares its clients",
    "tests/integration/test_server_api.py": "one suite over one API, which shares its clients",
}

_FOLDERS = ("gateway", "transports", "tests", "examples", "benchmarks", "client_js/src", "client_js/test", "scripts")
_SUFFIXES = {".py", ".ts", ".mjs", ".js", ".css", ".html", ".sh", ".c", ""}
_BUILT = ("node_modules", "dist", "build", "__pycache__", ".min.js")
_UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")

#: ``print`` is a parameter here, named as aiohttp names it.
PRINTS = {"gateway.runner"}


def sources() -> list[Path]:
    found = []
    for folder in _FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            name = path.relative_to(ROOT).as_posix()
            if path.is_file() and path.suffix in _SUFFIXES and not any(built in name for built in _BUILT):
                found.append(path)
    return found


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_unfinished_is_left(path: Path) -> None:
    if path == Path(__file__):
        return
    text = path.read_text(errors="replace")
    assert _UNFINISHED.findall(text) == []
    if path.suffix == ".ts" and "/src/" in path.as_posix():
        assert "console.log" not in text
        assert "debugger" not in text


@pytest.mark.parametrize("name", modules())
def test_no_print_is_left(name: str) -> None:
    calls = [
        node.lineno
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("print", "breakpoint", "pprint")
    ]
    assert calls == [] or name in PRINTS


def test_no_file_is_too_long() -> None:
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(errors="replace").splitlines()) for path in sources()
    }
    long = {name: length for name, length in lengths.items() if length > MAX_LINES}
    assert set(long) - set(LONG_FILES) == set(), f"divide it, or say in LONG_FILES why not: {long}"
    assert set(LONG_FILES) - set(long) == set(), "these have become shorter"
