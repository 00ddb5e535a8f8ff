"""The project's modules as source: which there are, and what each imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("transports", "gateway")


@dataclass(frozen=True)
class Import:
    """``name`` is imported (the module, or an attribute of it)."""

    name: str
    is_runtime: bool  # not for type checkers alone
    is_immediate: bool  # while the module itself is imported, not in a function


@cache
def modules() -> dict[str, Path]:
    """Files by module name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(), str(modules()[name]))


@cache
def imports(name: str) -> tuple[Import, ...]:
    is_package = modules()[name].name == "__init__.py"
    return tuple(_imports(tree(name), name if is_package else name.rpartition(".")[0], True, True))


def _imports(node: ast.AST, package: str, is_runtime: bool, is_immediate: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, is_runtime, is_immediate)
        elif isinstance(child, ast.ImportFrom):
            base = child.module or ""
            if child.level:
                parent = package.split(".")[: len(package.split(".")) - child.level + 1]
                base = ".".join([*parent, base] if base else parent)
            for alias in child.names:
                yield Import(f"{base}.{alias.name}", is_runtime, is_immediate)
        elif isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for part in child.body:
                yield from _imports(ast.Module([part], []), package, False, is_immediate)
            yield from _imports(ast.Module(child.orelse, []), package, is_runtime, is_immediate)
        else:
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, package, is_runtime, is_immediate and not is_function)


def own_module(name: str) -> str | None:
    """The module of ours that an imported name means, or lies in."""
    while name:
        if name in modules():
            return name
        name = name.rpartition(".")[0]
    return None
