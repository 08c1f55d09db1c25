"""Every example in the documents is run; where it needs data, minutes or a GPU, a comment before it
says so (`<!-- not run: why -->`) and its commands are parsed by their own parsers."""

import argparse
import io
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import pytest
from PIL import Image

from serving.models.load import load
from tests.documents import (
    ROOT,
    Block,
    Command,
    WrongCommandError,
    check_options,
    commands,
    pages,
    run,
)
from tests.nets import write_tiny_artifacts
from tests.serving.helpers import Running, running

SERVER = "http://127.0.0.1:8000"
BLOCKS = [block for page in pages() for block in page.blocks()]
SHELL = [block for block in BLOCKS if block.kind == "sh"]
OFFLINE = [b for b in SHELL if not b.why_not and "curl" not in b.text]
ONLINE = [b for b in SHELL if not b.why_not and "curl" in b.text]
INLINE = sorted({line for page in pages() for line in page.commands()})
SNIPPETS = [block for block in BLOCKS if block.kind == "python"]


def ids(blocks: Sequence[Block]) -> list[str]:
    return [block.where for block in blocks]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Tiny networks under the names of the shipped ones."""
    root = tmp_path_factory.mktemp("artifacts")
    write_tiny_artifacts(root, decode=(4,))
    with running(load(root, threads=1)) as server:
        yield server


def here(folder: Path, monkeypatch: pytest.MonkeyPatch, needed: str) -> None:
    """A folder with what examples read: what they write does not come into the repository."""
    monkeypatch.chdir(folder)
    for model in (ROOT / "pretrained").iterdir():
        if model.name in needed:
            shutil.copytree(model, folder / "pretrained" / model.name)


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (48, 32), (30, 60, 200)).save(file, "PNG")
    return file.getvalue()


def curl(server: Running, words: Sequence[str]) -> httpx.Response:
    """What curl does with the few options that documents use; it may not be on this machine."""
    parser = argparse.ArgumentParser(prog="curl")
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-N", action="store_true")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-d")
    parser.add_argument("-F", action="append", default=[])
    parser.add_argument("url")
    given = parser.parse_args(list(words))
    assert given.url.startswith(SERVER)
    path = given.url.removeprefix(SERVER)
    headers = dict(line.split(": ", 1) for line in given.H)
    if given.F:
        parts = [part.split("=", 1) for part in given.F]
        files = [(name, (value[1:], picture())) for name, value in parts if value[0] == "@"]
        fields = {name: value for name, value in parts if value[0] != "@"}
        return server.client.post(path, files=files, data=fields, headers=headers)
    if given.d:
        return server.client.post(path, content=given.d, headers=headers)
    return server.client.get(path, headers=headers)


def status(command: Command) -> int | str | None:
    """With which status it ends; a script that just comes to its end has 0."""
    try:
        run(command)
    except SystemExit as ended:
        return ended.code or 0
    return 0


def test_every_block_says_what_it_is_or_is_plain() -> None:
    assert {block.kind for block in BLOCKS} <= {"sh", "python", ""}
    assert 2 * len(BLOCKS) == sum(page.text.count("```") for page in pages())
    for block in BLOCKS:
        first = block.text.split(maxsplit=1)[0]
        assert block.kind or first not in ("python", "curl", "make", "import", "from"), block.where


@pytest.mark.parametrize("block", SHELL, ids=ids(SHELL))
def test_every_command_exists_and_takes_its_options(block: Block) -> None:
    for command in commands(block.text):
        if command.file and command.words:
            check_options(command)


@pytest.mark.parametrize("line", INLINE)
def test_every_command_in_a_line_of_text_takes_its_options(line: str) -> None:
    check_options(commands(line)[0])


@pytest.mark.parametrize("block", OFFLINE, ids=ids(OFFLINE))
def test_commands_do_what_they_are_shown_for(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here(tmp_path, monkeypatch, block.text)
    for command in commands(block.text):
        assert command.file, f"{command.words[0]} is not run here: say why before the block"
        assert status(command) == 0


@pytest.mark.parametrize("block", ONLINE, ids=ids(ONLINE))
def test_requests_are_answered(block: Block, server: Running) -> None:
    for command in commands(block.text):
        program, *words = command.words
        assert program == "curl"
        response = curl(server, words)
        assert response.status_code == 200, response.text
        if "/metrics" not in words[-1]:
            streamed = response.headers["content-type"].startswith("text/event-stream")
            assert response.text.endswith("data: [DONE]\n\n") if streamed else response.json()


@pytest.mark.parametrize("block", SNIPPETS, ids=ids(SNIPPETS))
def test_snippets_run(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Running
) -> None:
    here(tmp_path, monkeypatch, block.text)
    code = block.text.replace(SERVER, str(server.client.base_url).rstrip("/"))
    exec(compile(code, block.where, "exec"), {})


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("python -m training.nothing", WrongCommandError),
        ("python export/thaw.py ckpt.pt", WrongCommandError),
        ("make coffee", WrongCommandError),
        ("LUMINANET_COLOUR=red python -m serving --port 0", WrongCommandError),
        ("rm -rf /", WrongCommandError),
        ("python -m training.train --preset nothing", SystemExit),
        ("python -m export.show", SystemExit),
        ("torchrun --nproc-per-node 8 -m training.train --colour red", SystemExit),
        ("torchrun --processes 8 -m training.train", SystemExit),
    ],
)
def test_an_example_that_is_wrong_is_found(line: str, fault: type[BaseException]) -> None:
    with pytest.raises(fault):
        check_options(commands(line)[0])


def test_a_setting_that_does_not_exist_is_found() -> None:
    with pytest.raises(Exception, match="unrecognized arguments: --colour"):
        check_options(commands("python -m serving --colour red")[0])


def test_a_command_over_two_lines_is_one() -> None:
    (command,) = commands("curl -s URL \\\n     -d 'a b'   # a comment")
    assert command == Command(("curl", "-s", "URL", "-d", "a b"))
