"""The snippets of the client's documentation do what the page says.

A block marked ``ts`` is a program of its own; the block ``text`` right behind it is what it prints. ``ts channels``
runs against the gateway in memory; ``ts page`` is for browsers, and compiled only (``test_client_worker`` runs the like
of it). All of them together are compiled against the types of the package.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.node_scripts import run_node
from tests.support.servers import ROOT

pytestmark = pytest.mark.node

CLIENT = ROOT / "client_js"
PAGES = (*(ROOT / "docs" / f"client{part}.md" for part in ("", "-react", "-worker")), CLIENT / "README.md")
_BLOCK = re.compile(
    r"^```tsx?(?P<marks>[^\n]*)\n(?P<code>.*?)^```\n(?:\n*```text\n(?P<prints>.*?)^```\n)?", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Snippet:
    name: str
    code: str
    expected: list[str]
    is_in_memory: bool
    is_for_pages: bool


def _snippets(page: Path) -> list[Snippet]:
    text = page.read_text()
    return [
        Snippet(
            f"{page.stem}:{text.count(chr(10), 0, found.start()) + 1}",
            found["code"],
            (found["prints"] or "").splitlines(),
            "channels" in found["marks"].split(),
            "page" in found["marks"].split(),
        )
        for found in _BLOCK.finditer(text)
    ]


SNIPPETS = [snippet for page in PAGES for snippet in _snippets(page)]


def test_each_page_has_snippets_with_what_they_print() -> None:
    for page in PAGES:
        found = _snippets(page)
        assert len(found) == page.read_text().count("\n```ts")
        assert any(snippet.expected for snippet in found)


@pytest.mark.parametrize(
    "snippet", [each for each in SNIPPETS if not each.is_for_pages], ids=lambda snippet: snippet.name
)
def test_a_snippet_prints_what_the_page_says(server_process: Any, snippet: Snippet) -> None:
    server = server_process(module="tests.conformance.client_docs_server")
    run_node(
        "node/snippet.mjs",
        json.dumps(
            {
                "code": snippet.code,
                "url": server.url,
                "expected": snippet.expected,
                "inMemory": snippet.is_in_memory,
            }
        ),
    )


def test_the_snippets_compile_against_the_types_of_the_package() -> None:
    build = CLIENT / "build"
    build.mkdir(exist_ok=True)
    # Inside the package, so that what it depends on is found from there.
    with tempfile.TemporaryDirectory(prefix="docs-", dir=build) as name:
        folder = Path(name)
        for snippet in SNIPPETS:
            (folder / f"{snippet.name.replace(':', '-')}.tsx").write_text(snippet.code)
        options = {
            "extends": str(CLIENT / "tsconfig.json"),
            "compilerOptions": {
                "noEmit": True,
                "rootDir": str(CLIENT),
                "jsx": "react-jsx",
                "noUnusedLocals": False,
                "types": ["node"],
                "paths": {
                    "tidegate-client": [str(CLIENT / "dist" / "index.d.ts")],
                    "tidegate-client/*": [str(CLIENT / "dist" / "*" / "index.d.ts")],
                },
            },
            "include": ["*.tsx"],
        }
        (folder / "tsconfig.json").write_text(json.dumps(options))
        done = subprocess.run(
            ["node", str(CLIENT / "node_modules" / "typescript" / "bin" / "tsc"), "-p", name],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout
