"""The documents say what is true: their commands exist, their settings are the server's, their
links and paths lead somewhere."""

import re

import pytest

from serving.errors import STATUS
from serving.metrics.advantage import AdvantageCollector, Pairs
from serving.metrics.families import Metrics
from serving.metrics.loaded import LoadedCollector
from serving.metrics.memory import MemoryGauges
from serving.settings import Settings
from tests.documents import CODE, README, ROOT, SERVING, Page, module_file, pages
from training.presets import PRESETS

PAGES = pages()
TEXT = README.read_text("utf-8")
LONGEST_LINE = 130

on_every_page = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


def test_the_two_commands_come_first_and_exist() -> None:
    top = "\n".join(TEXT.splitlines()[:25])
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
    text = SERVING.read_text("utf-8")
    table = text.split("<!-- settings:begin -->\n")[1].split("<!-- settings:end -->")[0]
    expected = ["| variable | default | what it sets |", "| --- | --- | --- |", *rows]
    assert table.strip().splitlines() == expected


def test_every_preset_that_is_named_exists_and_the_first_ones_are_named() -> None:
    named = set(re.findall(r"(?:--preset |preset `)([\w-]+)", "".join(p.text for p in PAGES)))
    assert named - {"NAME"} <= set(PRESETS)
    for preset in ("cifar10", "tinystories", "gpt2", "cifar10-distilled", "tinystories-recall"):
        assert f"`{preset}`" in TEXT


def test_every_preset_that_is_shipped_is_named() -> None:
    for manifest in (ROOT / "pretrained").glob("*/artifact/manifest.json"):
        (preset,) = re.findall(r"--preset ([\w-]+)", manifest.read_text("utf-8"))
        assert f"`{preset}`" in TEXT


@on_every_page
def test_every_make_target_that_is_named_exists(page: Page) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in re.findall(r"(?:^|`)make ((?:[a-z]+ ?)+)", page.text, re.MULTILINE):
        for target in line.split():
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@on_every_page
def test_every_module_that_is_named_can_be_run(page: Page) -> None:
    ours = [name for name in re.findall(r"python -m ([\w.]+\w)", page.text) if name != "pip"]
    assert all(module_file(name) for name in ours)


@on_every_page
def test_every_link_to_a_file_leads_somewhere(page: Page) -> None:
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", page.text):
        file = page.path.parent / target if target else page.path
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in {title.lower().replace(" ", "-") for title in titles}


@on_every_page
def test_every_path_that_is_named_exists(page: Page) -> None:
    folders = "|".join((*CODE, "docs", "pretrained", "tests"))
    for path in re.findall(rf"`((?:{folders})/[\w./-]*)`", page.text):
        assert (ROOT / path).exists(), path


@on_every_page
def test_lines_have_a_length_that_can_be_read(page: Page) -> None:
    """Rows of tables cannot be broken; in the README they are short all the same."""
    is_first = page.path == README
    for line in page.prose().splitlines():
        is_whole = line.startswith("![") or (line.startswith("|") and not is_first)
        assert is_whole or len(line) <= LONGEST_LINE, line


def test_the_readme_is_read_in_a_few_minutes() -> None:
    assert len(TEXT.splitlines()) <= 120
    table = TEXT.split("## Map\n")[1].split("## ")[0]
    assert len(table.strip().splitlines()) <= 30


def test_every_document_is_reached_from_the_readme() -> None:
    for page in PAGES:
        assert page.path == README or f"]({page.name})" in TEXT, page.name


def test_the_results_were_written_by_the_command() -> None:
    table = TEXT.split("<!-- quality:begin -->")[1].split("<!-- quality:end -->")[0]
    written = (ROOT / "benchmarks" / "quality.md").read_text("utf-8")
    assert table.strip()
    assert table.strip() in written


def test_every_status_of_an_error_is_told() -> None:
    text = SERVING.read_text("utf-8").split("## Errors\n")[1].split("## ")[0]
    for code, _ in STATUS.values():
        assert code == 499 or str(code) in text  # 499 is counted; nobody is left to read it


def test_every_metric_is_told_and_no_other() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8").split("## Metrics\n")[1]
    told = {
        name
        for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    }
    registry = Metrics().registry
    MemoryGauges(registry)
    registry.register(AdvantageCollector(Pairs()))
    registry.register(LoadedCollector(lambda: [], lambda: []))
    known = {
        family.name.removeprefix("luminanet_")
        + {"counter": "_total", "info": "_info"}.get(family.type, "")
        for family in registry.collect()
        if not family.name.startswith("process_")
    }
    assert told == known
