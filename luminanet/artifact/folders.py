"""A folder of files that appears whole, or not at all, wherever it may lie.

It is made aside and renamed into place. Where that cannot be (a mount, the layer of a container, a
parent that is read-only, the folder one stands in), its files are made in a hidden folder inside of
it and moved up, its `mark` last: whoever finds the mark finds the rest. A link stays, and what it
names is replaced. Whatever ends the work in between, the old files come back.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from luminanet.errors import ArtifactError

try:
    import fcntl
except ImportError:  # a system that has none
    fcntl = None  # type: ignore[assignment]

ASIDE, INSIDE = ".luminanet-new-", ".luminanet-inside-"
"""What the names of unfinished folders begin with: beside the one that is made, and inside it."""
SYSTEM = {"lost+found"}
"""What a file system puts into its own root."""
CANNOT_RENAME = {errno.EACCES, errno.EBUSY, errno.EPERM, errno.EROFS, errno.EXDEV}


def follow(path: Path) -> Path:
    """What a path stands for, all links followed. Raises ArtifactError for links in a circle."""
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ArtifactError(f"{path} is a link that leads back to itself: remove it") from error
    return Path(os.path.realpath(path))


def contents(directory: Path) -> list[Path]:
    """What is in a folder, without what the file system put there and what is only passing by."""
    paths = sorted(directory.iterdir())
    return [path for path in paths if path.name not in SYSTEM and not path.name.startswith(ASIDE)]


def is_unfinished(directory: Path) -> bool:
    """Whether something was killed while it replaced the files in this very folder."""
    return any(path.name.startswith(INSIDE) for path in directory.iterdir())


def check_writable(directory: Path) -> None:
    """Tries to write into a folder, or to where it would be made, and leaves nothing there.

    Raises ArtifactError when that fails.
    """
    nearest = follow(directory)
    with alone(nearest.parent):
        while not os.path.lexists(nearest):
            nearest = nearest.parent
        if not nearest.is_dir():
            raise ArtifactError(f"{nearest} is not a folder: choose another for what is written")
        try:
            with tempfile.TemporaryDirectory(prefix=ASIDE, dir=nearest, ignore_cleanup_errors=True):
                pass
        except OSError as error:
            raise ArtifactError(
                f"{directory} cannot be written ({error.strerror}): choose another folder"
            ) from error


def put(directory: Path, files: Mapping[str, bytes], mark: str, aside: Sequence[Path] = ()) -> None:
    """Makes a folder that holds these files and no others, in place of the one that is there.

    `files` are named from the folder, "1/model.onnx" for example, and `mark` is one of them.
    `aside` are folders of the same file system in which it is made; the default is beside it.
    """
    directory = follow(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    refused: OSError = NotADirectoryError(errno.ENOTDIR, "Not a directory", str(directory))
    for place in (*aside, directory.parent) if _can_be_renamed(directory) else ():
        try:
            _renamed(directory, files, place)
            return
        except OSError as error:
            if error.errno not in CANNOT_RENAME:
                raise
            refused = error
    if not directory.is_dir():
        raise refused
    _in_place(directory, files, mark)


def _can_be_renamed(directory: Path) -> bool:
    """Not what is mounted, nor the folder one stands in, which would be another afterwards."""
    with suppress(OSError):
        if directory.samefile(Path.cwd()):
            return False
    return not os.path.ismount(directory)


def _renamed(directory: Path, files: Mapping[str, bytes], place: Path) -> None:
    with _workplace(ASIDE, place) as work:
        _write(work / "new", files)
        with alone(directory.parent):
            _swap(work / "new", directory, work / "old")


def _swap(new: Path, directory: Path, old: Path) -> None:
    """Any exception may come after any call: what was there is there again."""
    try:
        if directory.exists():
            directory.rename(old)
        new.rename(directory)
    except BaseException:
        if old.exists() and not directory.exists():
            old.rename(directory)
        elif not new.exists():
            _remove(old)
        raise


def _in_place(directory: Path, files: Mapping[str, bytes], mark: str) -> None:
    """The old files go aside, the mark first; the new ones come, the mark last."""
    with alone(directory), _workplace(INSIDE, directory) as work:
        before = [path for path in contents(directory) if path != work]
        _write(work / "new", files)
        (work / "old").mkdir()
        try:
            # False sorts before True: `!=` puts the mark first, `==` puts it last.
            for path in sorted(before, key=lambda path: path.name != mark):
                path.rename(work / "old" / path.name)
            _move_up(work / "new", mark)
        except BaseException:
            for name in sorted({Path(name).parts[0] for name in files}, key=lambda n: n != mark):
                if (directory / name).exists() and not (work / "new" / name).exists():
                    (directory / name).rename(work / "new" / name)
            _move_up(work / "old", mark)
            raise


def _move_up(folder: Path, mark: str) -> None:
    for path in sorted(folder.iterdir(), key=lambda path: path.name == mark):
        path.rename(folder.parents[1] / path.name)


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        try:
            (folder / name).write_bytes(data)
        except OSError as error:  # of a full disk Python tells no name
            raise OSError(error.errno, error.strerror, str(folder / name)) from error


@contextmanager
def _workplace(prefix: str, place: Path) -> Iterator[Path]:
    """A folder that is gone afterwards, unless it has old files that could not be brought back."""
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    try:
        yield work
    except BaseException:
        _remove(work / "new")
        for folder in (work / "old", work):
            with suppress(OSError):
                folder.rmdir()
        raise
    _remove(work)


def _remove(folder: Path) -> None:
    """Also when that is interrupted."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time is in here for a folder, where its file system can lock one."""
    handle = None
    try:
        with suppress(OSError):
            handle = os.open(folder, os.O_RDONLY)
            if fcntl:
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        if handle is not None:
            os.close(handle)
