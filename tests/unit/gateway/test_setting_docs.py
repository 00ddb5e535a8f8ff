"""The reference page is the one that the table makes."""

from __future__ import annotations

import tomllib
from pathlib import Path

from gateway.setting_sources import ConfigFile
from gateway.settings import SETTINGS, Settings, markdown, resolve

ROOT = Path(__file__).resolve().parents[3]


def test_the_configuration_page_is_the_one_the_table_makes() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == markdown(), "run: tidegate config --markdown > docs/configuration.md"


def test_the_configuration_page_names_every_setting_flag_and_variable() -> None:
    page = markdown()
    for each in SETTINGS:
        assert f"`{each.name}`<br>`{each.flag}`<br>`{each.variable}`" in page


def test_the_file_on_the_configuration_page_holds_the_defaults() -> None:
    example = markdown().partition("```toml\n")[2].partition("```")[0]
    resolution = resolve({}, {}, ConfigFile(Path("t.toml"), tomllib.loads(example)))
    assert resolution.settings() == Settings()
    unset = {name for name, source in resolution.sources.items() if source.kind == "default"}
    of_cluster = {f"cluster_{name}" for name in ("listen", "secret", "registry", "certfile", "keyfile", "cafile")}
    assert unset == {"app", "broker", "certfile", "keyfile", "keyfile_password", "runtime_dir"} | of_cluster
