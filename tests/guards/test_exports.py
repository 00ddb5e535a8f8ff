"""What ``import gateway`` gives."""

from __future__ import annotations

import ast

import pytest

import gateway
from tests.guards.source_tree import modules, tree


def _bound_names() -> set[str]:
    names = set()
    for node in tree("gateway").body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_") and name != "annotations"}


def test_all_is_what_the_package_binds() -> None:
    assert set(gateway.__all__) == _bound_names()


def test_all_has_each_name_once() -> None:
    assert len(gateway.__all__) == len(set(gateway.__all__))


@pytest.mark.parametrize("name", gateway.__all__)
def test_exported_name_exists_and_is_described(name: str) -> None:
    found = getattr(gateway, name)
    if getattr(found, "__module__", "").startswith(("gateway", "transports")) and callable(found):
        assert found.__doc__, name


@pytest.mark.parametrize("name", modules())
def test_every_module_says_what_it_is(name: str) -> None:
    docstring = ast.get_docstring(tree(name))
    assert docstring, name
    assert docstring.partition("\n\n")[0].rstrip()[-1] in ".:", "it begins with a sentence"


def test_star_import_gives_nothing_else() -> None:
    namespace: dict[str, object] = {}
    exec("from gateway import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(gateway.__all__)
