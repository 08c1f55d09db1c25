"""Whatever happens while a folder is replaced, it holds the old files or the new ones, and nothing
else is left. Mounts are stood in for by the errors that the system gives for them."""

import errno
import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from luminanet.artifact import folders
from luminanet.artifact.folders import check_writable, put
from luminanet.errors import ArtifactError

OLD = {"mark": b"old", "a": b"old a", "gone": b"old gone"}
NEW = {"a": b"new a", "mark": b"new", "1/b": b"new b"}
Files = dict[str, bytes]


def files_in(folder: Path) -> Files:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    put(tmp_path / "folder", OLD, "mark")
    return tmp_path / "folder"


@pytest.fixture(params=["aside", errno.EBUSY, errno.EXDEV, errno.EACCES, "mount", "here"])
def kind(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Every way in which a folder can be written: the last five cannot rename it."""
    if isinstance(request.param, int):
        cannot_rename(folder, request.param, monkeypatch)
    if request.param == "mount":
        monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == folder)
    if request.param == "here":
        monkeypatch.chdir(folder)
    return request.param


def cannot_rename(folder: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Path.rename

    def refusing(self: Path, target: Path) -> Path:
        if folder in (self, Path(target)):
            raise OSError(number, os.strerror(number), str(self))
        return plain(self, target)

    monkeypatch.setattr(Path, "rename", refusing)


def assert_holds(folder: Path, expected: Files) -> None:
    assert files_in(folder) == expected
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_old_files_go_and_the_new_ones_come(folder: Path, kind: Any) -> None:
    inode = folder.stat().st_ino
    put(folder, NEW, "mark")
    assert_holds(folder, NEW)
    assert (folder.stat().st_ino == inode) == (kind != "aside")


def test_an_empty_folder_is_filled(folder: Path, kind: Any) -> None:
    for path in folder.iterdir():
        path.unlink()
    put(folder, NEW, "mark")
    assert_holds(folder, NEW)


class Stop(BaseException):
    """As an interrupt: no Exception."""


@pytest.mark.parametrize("done", [False, True])
def test_an_interrupt_at_any_rename_brings_the_old_files_back(
    done: bool, folder: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each call of the system, and after it (`done`), until none is left to interrupt."""
    plain, stopped = Path.rename, 0

    def attempt(at: int) -> bool:
        calls = 0

        def stopping(self: Path, target: Path) -> Path:
            nonlocal calls
            calls += 1
            if calls != at:
                return plain(self, target)
            if done:
                with suppress(OSError):
                    plain(self, target)
            raise Stop

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", stopping)
            try:
                put(folder, NEW, "mark")
            except Stop:
                return True
            return False

    while attempt(stopped + 1):
        stopped += 1
        is_swapped = done and files_in(folder) == NEW
        assert_holds(folder, NEW if is_swapped else OLD)
        if is_swapped:
            put(folder, OLD, "mark")
    assert stopped >= 2
    assert_holds(folder, NEW)


def test_old_files_that_cannot_be_brought_back_are_not_removed(
    folder: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is gone as soon as the old files are aside, and the error says where they are."""
    plain, gone = Path.rename, False

    def failing(self: Path, target: Path) -> Path:
        nonlocal gone
        gone = gone or self.name == "new" or self.parent.name == "new"
        if gone:
            raise OSError(errno.EIO, "Input/output error", str(self), None, str(target))
        return plain(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match=r"Input/output error: '.*old"):
        put(folder, NEW, "mark")
    found = {path.name: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}
    assert found == OLD


def test_the_mark_comes_last_and_goes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sees the mark of the new files finds all of them, and no old file with it."""
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == folder)
    plain, seen = Path.rename, []

    def watching(self: Path, target: Path) -> Path:
        result = plain(self, target)
        seen.append({p.name for p in folder.iterdir() if not p.name.startswith(".")})
        return result

    monkeypatch.setattr(Path, "rename", watching)
    put(folder, NEW, "mark")
    assert [("mark" in names) for names in seen] == [False] * (len(seen) - 1) + [True]
    assert seen[-1] == {"a", "mark", "1"}


def test_a_full_disk_leaves_the_old_files_and_names_what_did_not_fit(
    folder: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left.*new/a'"):
        put(folder, NEW, "mark")
    monkeypatch.undo()
    assert_holds(folder, OLD)


def test_a_parent_that_is_read_only_is_no_hindrance(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tempfile.mkdtemp

    def refusing(suffix: Any = None, prefix: Any = None, dir: Any = None) -> str:
        if Path(dir) == folder.parent:
            raise OSError(errno.EROFS, "Read-only file system")
        return str(plain(suffix, prefix, dir))

    monkeypatch.setattr(tempfile, "mkdtemp", refusing)
    check_writable(folder)
    put(folder, NEW, "mark")
    assert_holds(folder, NEW)
    with pytest.raises(ArtifactError, match="cannot be written"):
        check_writable(folder.parent / "other")
    with pytest.raises(OSError, match="Read-only"):
        put(folder.parent / "other", NEW, "mark")


def test_another_place_is_tried_where_the_first_is_of_another_file_system(tmp_path: Path) -> None:
    """As a repository that is mounted from the file system around it."""
    far, near = tmp_path / "far", tmp_path / "near"
    far.mkdir()
    near.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        plain = Path.rename

        def refusing(self: Path, target: Path) -> Path:
            if self.is_relative_to(far) and not Path(target).is_relative_to(far):
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            return plain(self, target)

        patch.setattr(Path, "rename", refusing)
        put(near / "folder", NEW, "mark", [far])
    assert_holds(near / "folder", NEW)
    assert not list(far.iterdir())


def test_what_a_link_names_is_replaced_and_the_link_stays(folder: Path) -> None:
    for name, target in (("link", "folder"), ("far", str(folder)), ("twice", "link")):
        link = folder.parent / name
        link.symlink_to(target)
        put(link, NEW, "mark")
        assert link.is_symlink()
        assert files_in(folder) == NEW
        put(folder, OLD, "mark")


def test_a_link_to_nothing_makes_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("deep/folder")
    check_writable(tmp_path / "link")
    put(tmp_path / "link", NEW, "mark")
    assert files_in(tmp_path / "deep" / "folder") == NEW
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("below", ["", "folder"])
def test_links_in_a_circle_are_told(below: str, tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    for ask in (check_writable, write_new):
        with pytest.raises(ArtifactError, match="leads back to itself"):
            ask(tmp_path / "one" / below)


def write_new(folder: Path) -> None:
    put(folder, NEW, "mark")


def test_what_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("dear")
    (tmp_path / "link").symlink_to("file")
    for path in ("file", "file/below", "link"):
        with pytest.raises(ArtifactError, match="file is not a folder"):
            check_writable(tmp_path / path)
    assert (tmp_path / "file").read_text() == "dear"


def test_a_file_that_is_mounted_is_not_taken_for_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("dear")
    monkeypatch.setattr(os.path, "ismount", lambda _: True)
    with pytest.raises(NotADirectoryError, match="file"):
        put(tmp_path / "file", NEW, "mark")
    assert (tmp_path / "file").read_text() == "dear"


def test_asking_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "some" / "new" / "folder")
    assert not list(tmp_path.iterdir())


def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path) -> None:
    put(tmp_path / ("n" * 255), NEW, "mark")
    assert_holds(tmp_path / ("n" * 255), NEW)


def test_what_the_file_system_put_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = tmp_path / "volume"
    (volume / "lost+found").mkdir(parents=True)
    assert not folders.contents(volume)
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == volume)
    put(volume, OLD, "mark")
    put(volume, NEW, "mark")
    assert files_in(volume) == NEW
    assert (volume / "lost+found").is_dir()


def test_what_a_killed_run_left_inside_is_removed_by_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == folder)
    (folder / "mark").unlink()
    (folder / f"{folders.INSIDE}x" / "old").mkdir(parents=True)
    assert folders.is_unfinished(folder)
    put(folder, NEW, "mark")
    assert_holds(folder, NEW)
    assert not folders.is_unfinished(folder)


@pytest.mark.parametrize("in_place", [False, True])
def test_many_at_once_into_one_folder_leave_the_files_of_one(
    in_place: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_place:
        monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == folder)
    errors: list[Exception] = []

    def write(number: int) -> Callable[[], None]:
        def work() -> None:
            try:
                for _ in range(10):
                    check_writable(folder)
                    put(folder, dict.fromkeys(NEW, b"%d" % number), "mark")
            except Exception as error:
                errors.append(error)

        return work

    threads = [threading.Thread(target=write(number)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(set(files_in(folder).values())) == 1
    assert_holds(folder, files_in(folder))
