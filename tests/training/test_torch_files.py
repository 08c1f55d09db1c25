"""A file is whole and what it is taken for, or one line says what it is instead."""

import errno
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from luminanet.errors import CheckpointError
from training.torch_files import read_torch, write_torch

WEIGHTS = torch.arange(2000.0)
BODY = {"weights": WEIGHTS, "name": "one"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_torch(tmp_path / "ckpt.pt", BODY)
    return tmp_path / "ckpt.pt"


def refused(path: Path, says: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_torch(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert says in message
    assert message.isprintable()
    assert "weights_only" not in message
    assert len(message) < 500


def test_what_is_written_is_read(path: Path) -> None:
    raw = read_torch(path)
    assert torch.equal(raw["weights"], WEIGHTS)
    assert raw["name"] == "one"


def test_every_flipped_bit_of_the_content_is_noticed(path: Path) -> None:
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for member in members:
        content = zipfile.ZipFile(path).read(member)
        start = data.index(content, member.header_offset)
        for at in {0, len(content) // 2, len(content) - 1}:
            damaged = bytearray(data)
            damaged[start + at] ^= 4
            path.write_bytes(damaged)
            refused(path, "is damaged")
        path.write_bytes(data)


def test_a_file_cut_anywhere_is_refused(path: Path) -> None:
    data = path.read_bytes()
    for share in range(1, 20):
        path.write_bytes(data[: len(data) * share // 20])
        refused(path, "is damaged")
    path.write_bytes(data[:-1])
    refused(path, "is damaged")
    path.write_bytes(b"")
    refused(path, "is empty")


def test_a_file_without_check_sums_is_read(path: Path) -> None:
    """torch can leave them out."""
    torch.serialization.set_crc32_options(False)
    try:
        write_torch(path, BODY)
    finally:
        torch.serialization.set_crc32_options(True)
    with zipfile.ZipFile(path) as archive:
        assert {member.CRC for member in archive.infolist()} == {0}
    assert torch.equal(read_torch(path)["weights"], WEIGHTS)


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind)
    return buffer.getvalue()


def archive(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr(name, "hello")
    return buffer.getvalue()


def torch_bytes(body: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(body, buffer, **options)
    return buffer.getvalue()


def safetensors() -> bytes:
    head = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(head).to_bytes(8, "little") + head + bytes(4)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (picture("PNG"), "it is a PNG picture"),
        (picture("JPEG"), "it is a JPEG picture"),
        (pickle.dumps({"a": 1}, 4), "it is a pickle"),
        (pickle.dumps({"a": 1}, 2), "it is a pickle"),
        (torch_bytes({"a": 1}, _use_new_zipfile_serialization=False), "a file of an old torch"),
        (safetensors(), "it is a safetensors file"),
        (b"hello\n", "it is a text file"),
        ("Gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n\n".encode(), "it is a text file"),
        (bytes(range(256)), "it is something else, or damaged"),
        (archive("hello.txt"), "is a zip archive but no checkpoint"),
        (archive("a/hello.txt"), "is a zip archive but no checkpoint"),
        (b"PK not an archive", "is damaged: its end is missing"),
        (torch_bytes(torch.nn.Linear(2, 2)), "an object of Python (torch.nn.modules.linear.Lin"),
        (torch_bytes(Path), "an object of Python (pathlib.Path)"),
        (torch_bytes([1]), "holds a list"),
    ],
)
def test_what_is_no_checkpoint_is_told_in_plain_words(
    tmp_path: Path, content: bytes, says: str
) -> None:
    (tmp_path / "ckpt.pt").write_bytes(content)
    refused(tmp_path / "ckpt.pt", says)


def test_a_folder_or_nothing_is_told(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder: name the ckpt.pt in it")
    refused(tmp_path / "ckpt.pt", "is not there: train one")


def test_a_file_that_may_not_be_read_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", closed)
    refused(path, "cannot be read: Permission denied")


class Full(io.BytesIO):
    """A file on a disk with room for so many bytes."""

    room = 700

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("room", [0, 300, 700, 5000])
def test_a_full_disk_is_told_as_such_and_leaves_what_was_there(
    path: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()
    monkeypatch.setattr(Full, "room", room)
    monkeypatch.setattr("luminanet.artifact.files.os.fdopen", _closing(Full))
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_torch(path, BODY)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def _closing(kind: Callable[[], Any]) -> Callable[[int, str], Any]:
    def fdopen(handle: int, _mode: str) -> Any:
        open(handle, "wb").close()
        return kind()

    return fdopen
