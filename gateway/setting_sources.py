"""Where settings come from: flags, the environment and a TOML file, each value with its provenance.

Nothing here reads the environment or looks for a file: both are handed in. Only `read_file` opens one, the one
it is told of.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .setting_problems import Problem, SettingsError, did_you_mean
from .setting_table import VARIABLE_PREFIX, Setting, Table

CONFIG_VARIABLE = "TIDEGATE_CONFIG"
DEFAULT_FILE = "tidegate.toml"

# Test suites steer themselves by variables of this prefix, which the processes they start inherit. No setting's
# name may begin with `test_`.
TEST_PREFIX = "TIDEGATE_TEST_"
#: Read before there are settings, by the accelerator and by what builds it.
ACCELERATOR_VARIABLES = ("TIDEGATE_PURE_PYTHON", "TIDEGATE_REQUIRE_ACCELERATOR")
_NO_SETTINGS = frozenset({CONFIG_VARIABLE, *ACCELERATOR_VARIABLES})

# Kubernetes gives every pod such variables for each Service of its namespace, so a Service named `tidegate`
# or `tidegate-redis` would otherwise keep the gateway from starting.
_SERVICE_VARIABLE = re.compile(
    r"TIDEGATE_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)
_SERVICE_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the value of a setting came from.

    place: the flag, the variable's name or the file's path; empty for a default
    """

    kind: Literal["flag", "environment", "file", "default"]
    place: str = ""

    def __str__(self) -> str:
        if self.kind == "default":
            return "default"
        return f"flag {self.place}" if self.kind == "flag" else self.place

    def locate(self, each: Setting) -> str:
        """The place of this setting, as an error names it."""
        if self.kind == "file":
            return f"{self.place}: [{each.group}] {each.name}"
        return self.place or each.name


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A TOML file that has been read. Relative paths in it are relative to its folder."""

    path: Path
    tables: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the sources gave together with the defaults.

    values, sources: by name, for all settings; a setting whose value was refused has its next best one
    broken: names of settings of which some value was refused
    """

    values: Mapping[str, object]
    sources: Mapping[str, Source]
    problems: tuple[Problem, ...]
    broken: frozenset[str]


def gather(
    table: Table, argv_values: Mapping[str, object], environ: Mapping[str, str], file: ConfigFile | None
) -> Gathered:
    """Each setting from the first source that gives it: flag, variable, file, default. All values are checked."""
    values: dict[str, object] = {}
    sources: dict[str, Source] = {}
    problems: list[Problem] = []
    broken: set[str] = set()
    for layer in (_from_argv(table, argv_values), _from_environ(table, environ), _from_file(table, file)):
        for found in layer:
            if isinstance(found, Problem):
                problems.append(found)
                continue
            each, raw, source = found
            try:
                value = each.kind.parse(raw)
            except ValueError as exc:
                problems.append(Problem(each.name, source.locate(each), str(exc)))
                broken.add(each.name)
                continue
            if each.name not in values:
                values[each.name] = _anchored(value, file) if source.kind == "file" else value
                sources[each.name] = source
    for each in table:
        values.setdefault(each.name, each.default)
        sources.setdefault(each.name, Source("default"))
    return Gathered(values, sources, tuple(problems), frozenset(broken))


def read_file(path: Path, named_by: str) -> ConfigFile:
    """The TOML file at `path`.

    named_by: the flag or variable that asked for it, for errors
    Raises: SettingsError when it cannot be read or is not TOML.
    """
    try:
        return ConfigFile(path, tomllib.loads(path.read_bytes().decode()))
    except OSError as exc:
        raise SettingsError([Problem("config", named_by, f"cannot read {path}: {exc.strerror or exc}")]) from None
    except UnicodeDecodeError as exc:
        message = f"is not TOML: byte {exc.start} is not UTF-8"
    except (ValueError, RecursionError) as exc:  # ValueError also for a number of thousands of digits
        message = f"is not TOML: {exc}"
    raise SettingsError([Problem("config", str(path), message)])


Found = tuple[Setting, object, Source]


def _from_argv(table: Table, argv_values: Mapping[str, object]) -> Iterator[Found | Problem]:
    for name, raw in argv_values.items():
        if name in table.by_name:
            yield table.by_name[name], raw, Source("flag", table.by_name[name].flag)
        else:
            yield Problem(name, name, f"there is no such setting{did_you_mean(name, table.by_name)}")


def _from_environ(table: Table, environ: Mapping[str, str]) -> Iterator[Found | Problem]:
    for variable, raw in sorted(environ.items()):
        if not variable.startswith(VARIABLE_PREFIX) or _is_passed_over(variable, raw):
            continue
        if variable not in table.by_variable:
            hint = did_you_mean(variable, [*table.by_variable, CONFIG_VARIABLE])
            allowed = "" if hint else "; `tidegate serve --help` lists those that there are"
            yield Problem(variable, variable, f"there is no such variable{hint}{allowed}")
        elif raw:  # an empty variable counts as unset, which is how Compose and CI pass on what is missing
            yield table.by_variable[variable], raw, Source("environment", variable)


def _is_passed_over(variable: str, raw: str) -> bool:
    return variable in _NO_SETTINGS or variable.startswith(TEST_PREFIX) or _is_service(variable, raw)


def _is_service(variable: str, raw: str) -> bool:
    if _SERVICE_VARIABLE.fullmatch(variable):
        return True
    return variable.endswith("_PORT") and _SERVICE_ADDRESS.match(raw) is not None


def _from_file(table: Table, file: ConfigFile | None) -> Iterator[Found | Problem]:
    if file is None:
        return
    source = Source("file", str(file.path))
    for group, content in file.tables.items():
        if group not in table.groups:
            yield Problem(group, f"{file.path}: {_key(group)}", _unknown_table(table, group))
        elif not isinstance(content, dict):
            # The type, not the value: [[tls]] in place of [tls] would show the password.
            message = f"must be a table, written [{group}], not {_TOML_TYPES.get(type(content), 'a value')}"
            if group in table.by_name:
                message += f"; did you mean the key {group!r} under [{table.by_name[group].group}]?"
            yield Problem(group, f"{file.path}: {group}", message)
        else:
            for key, raw in content.items():
                if key in table.by_name and table.by_name[key].group == group:
                    yield table.by_name[key], raw, source
                else:
                    yield Problem(key, f"{file.path}: [{group}] {_key(key)}", _unknown_key(table, key, group))


_TOML_TYPES: Mapping[type, str] = {str: "a string", list: "an array", bool: "a boolean", int: "a number"}


def _unknown_table(table: Table, name: str) -> str:
    if name in table.by_name:
        return f"belongs under [{table.by_name[name].group}]"
    hint = did_you_mean(name, table.groups) or did_you_mean(name, table.by_name)
    return f"there is no such table{hint}; tables are {', '.join(table.groups)}"


def _unknown_key(table: Table, key: str, group: str) -> str:
    if key in table.by_name:
        return f"belongs under [{table.by_name[key].group}]"
    names = [each.name for each in table.in_group(group)]
    hint = did_you_mean(key, names) or did_you_mean(key, table.by_name)
    return f"there is no such setting{hint}; [{group}] has {', '.join(names)}"


def _key(text: str) -> str:
    """A key as TOML writes it, so that one with odd characters stays on one line."""
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else json.dumps(text)


def _anchored(value: object, file: ConfigFile | None) -> object:
    return file.path.parent / value if file is not None and isinstance(value, Path) else value
