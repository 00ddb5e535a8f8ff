"""The reference page of the settings, written from their table."""

from __future__ import annotations

import json
from collections.abc import Iterator

from .setting_kinds import Duration, Size
from .setting_sources import ACCELERATOR_VARIABLES, CONFIG_VARIABLE, DEFAULT_FILE, TEST_PREFIX
from .setting_table import Setting, Table


def markdown(table: Table) -> str:
    """The text of docs/configuration.md: `tidegate config --markdown > docs/configuration.md`."""
    return "\n".join(_markdown_lines(table)) + "\n"


_PAGE_TOP = f"""\
<!-- Written by `tidegate config --markdown > docs/configuration.md` from gateway/settings.py and
gateway/setting_docs.py; edit there. -->

# Configuration

`tidegate serve` takes each setting from the first of these that gives it:

1. a flag: `--ping-interval-s 10s`
2. an environment variable: `TIDEGATE_PING_INTERVAL_S=10s`
3. a TOML file: `ping_interval_s = "10s"` under `[transports]`
4. the default

The file is the one named by `--config FILE`, else by `{CONFIG_VARIABLE}`, else `{DEFAULT_FILE}` in the
working directory if there is one.

`tidegate config` takes the same flags as `tidegate serve`, checks everything that would be used, and prints
each setting with its value and where it came from; `--json` prints the same for programs. Secrets are masked.

Anything unknown or out of bounds is an error: all problems are reported at once, a line each, and the exit
code is 2. A value is checked even where another source overrides it.

## How values are written

- **Times** are numbers of seconds, or text with a unit: `500ms`, `25s`, `2m`, `1h`.
- **Sizes** are numbers of bytes, or text with a unit: `KB`, `MB`, `GB` (powers of 1000), `KiB`, `MiB`, `GiB`
  (powers of 1024).
- **Switches** are `--demo` and `--no-demo` as flags; `true` or `false` (also `yes`, `no`, `on`, `off`, `1`,
  `0`) in variables; `true` or `false` in the file.
- **Lists** are separated by commas in flags and variables, and arrays in the file.
- **Files** named in the TOML file are relative to its folder; elsewhere to the working directory.
- An **empty variable** counts as unset. The variables that Kubernetes adds for a Service whose name begins
  with `tidegate` (`TIDEGATE_SERVICE_HOST`, `TIDEGATE_PORT=tcp://...` and so on) are passed over, and so
  are those of test suites, whose names begin with `{TEST_PREFIX}`, and those of the accelerator
  ({" and ".join(f"`{name}`" for name in ACCELERATOR_VARIABLES)}).

## Settings
"""


def _markdown_lines(table: Table) -> Iterator[str]:
    yield _PAGE_TOP
    for group, title in table.groups.items():
        yield f"### `[{group}]`: {title}\n"
        yield "| Setting | Default | Allowed | What it does |"
        yield "| --- | --- | --- | --- |"
        for each in table.in_group(group):
            names = f"`{each.name}`<br>`{each.flag}`<br>`{each.variable}`"
            default = "not set" if each.default is None else f"`{each.show(each.default)}`"
            allowed = each.kind.bounds.replace("*", "`*`")
            yield f"| {names} | {default} | {allowed} | {each.text}. |"
        yield ""
    yield "## A file with every default\n"
    yield "```toml"
    for group in table.groups:
        yield f"[{group}]"
        yield from map(_toml_line, table.in_group(group))
        if group != list(table.groups)[-1]:
            yield ""
    yield "```"


def _toml_line(each: Setting) -> str:
    if each.default is None:
        return f"# {each.name} = ..."
    if isinstance(each.kind, (Duration, Size)):
        return f"{each.name} = {json.dumps(each.show(each.default))}"
    return f"{each.name} = {json.dumps(each.kind.plain(each.default))}"
