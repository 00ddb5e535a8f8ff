"""A table of settings: each row has a kind, a default and a help, and all names it goes by follow from its name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from .setting_kinds import Kind, Secret, Target

T = TypeVar("T")

VARIABLE_PREFIX = "TIDEGATE_"
NOT_SET = "(not set)"


def setting(default: T, kind: Kind[T], group: str, text: str) -> T:
    """A field of a dataclass of settings. `text` is its help: one sentence without its full stop."""
    metadata = {"kind": kind, "group": group, "text": text}
    return field(default=default, repr=not isinstance(kind, Secret), metadata=metadata)


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table, with the names it goes by."""

    name: str
    group: str
    kind: Kind[Any]
    default: object
    text: str

    @property
    def is_positional(self) -> bool:
        return isinstance(self.kind, Target)

    @property
    def flag(self) -> str:
        return self.kind.metavar if self.is_positional else "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return VARIABLE_PREFIX + self.name.upper()

    def show(self, value: object) -> str:
        return NOT_SET if value is None else self.kind.show(value)


class Table:
    """The rows that the fields of a dataclass make, in their order.

    groups: the title of each TOML table by its name
    """

    def __init__(self, settings_class: type, groups: Mapping[str, str]) -> None:
        self.groups = groups
        self.rows: tuple[Setting, ...] = tuple(
            Setting(each.name, each.metadata["group"], each.metadata["kind"], each.default, each.metadata["text"])
            for each in dataclasses.fields(settings_class)
        )
        self.by_name: Mapping[str, Setting] = {each.name: each for each in self.rows}
        self.by_variable: Mapping[str, Setting] = {each.variable: each for each in self.rows}

    def __iter__(self) -> Iterator[Setting]:
        return iter(self.rows)

    def in_group(self, group: str) -> list[Setting]:
        """The settings of one TOML table, in the order of the table."""
        return [each for each in self.rows if each.group == group]
