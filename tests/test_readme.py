"""The README says what is true: its commands exist, its settings are the server's, its links lead
somewhere."""

import re
from pathlib import Path

from serving.settings import Settings
from training.presets import PRESETS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def test_the_two_commands_come_first_and_exist() -> None:
    top = "\n".join(README.splitlines()[:25])
    makefile = (ROOT / "Makefile").read_text()
    for target in ("serve", "test"):
        assert f"make {target}" in top
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_every_setting_is_in_the_table_as_the_server_knows_it() -> None:
    rows = [
        f"| `LUMINANET_{name.upper()}` | `{field.default}` | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    table = README.split("<!-- settings:begin -->\n")[1].split("<!-- settings:end -->")[0]
    expected = ["| variable | default | what it sets |", "| --- | --- | --- |", *rows]
    assert table.strip().splitlines() == expected


def test_every_preset_is_named() -> None:
    for preset in PRESETS:
        assert f"`{preset}`" in README


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in re.findall(r"(?:^|`)make ((?:[a-z]+ ?)+)", README, re.MULTILINE):
        for target in line.split():
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_link_to_a_file_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_folder_in_the_table_exists() -> None:
    for folder in re.findall(r"^\| `([a-z]+)/` \|", README, re.MULTILINE):
        assert (ROOT / folder).is_dir(), folder


def test_the_results_were_written_by_the_command() -> None:
    table = README.split("<!-- quality:begin -->")[1].split("<!-- quality:end -->")[0]
    written = (ROOT / "benchmarks" / "quality.md").read_text("utf-8")
    assert table.strip()
    assert table.strip() in written
