"""Columns of Parquet files, batch by batch, in memory that does not grow with the file.

Whatever a file holds that is not what it is taken for is one DataError of one line that names the
file, the column and the row; rows are counted from 0.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq

from luminanet.errors import DataError
from luminanet.untrusted import line

READ_BYTES = 1 << 20
"""What is read of a file at once, however large its row groups are."""


@dataclass(frozen=True, slots=True)
class Role:
    """What a column is for: the names it has on the hub, and the option that names another."""

    what: str
    names: tuple[str, ...]
    option: str


IMAGE = Role("images", ("img", "image"), "--image-column")
LABEL = Role("labels", ("label", "labels", "fine_label"), "--label-column")
TEXT = Role("stories", ("text", "story", "content"), "--text-column")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column is which; None: the one with a name that its role has on the hub."""

    image: str | None = None
    label: str | None = None
    text: str | None = None


BY_NAME = Columns()


def open_table(path: Path) -> pq.ParquetFile:
    """Raises DataError unless it is a whole Parquet file that can be read."""
    with readable(path):
        path.open("rb").close()  # tells in fewer words than Arrow why it cannot be read
        return pq.ParquetFile(
            path, buffer_size=READ_BYTES, pre_buffer=False, page_checksum_verification=True
        )


def pick(path: Path, file: pq.ParquetFile, role: Role, given: str | None) -> str:
    """The column with that role. Raises DataError unless there is exactly one."""
    with readable(path):
        names: list[str] = file.schema_arrow.names
    found = [name for name in names if (name == given if given else name in role.names)]
    if len(found) == 1:
        return found[0]
    wanted = given if given else " or ".join(role.names)
    what = "several columns" if found else "no column"
    raise DataError(
        f"{path} has {what} {line(wanted)} for the {role.what}: name one of its columns "
        f"({line(', '.join(names))}) with {role.option}"
    )


def batches(
    path: Path, file: pq.ParquetFile, names: list[str], rows: int
) -> Iterator[tuple[int, list[Any]]]:
    """The number of the first row and the columns, so many rows at a time. Raises DataError."""
    first = 0
    with readable(path):
        for batch in file.iter_batches(rows, columns=names):
            yield first, [batch.column(batch.schema.get_field_index(name)) for name in names]
            first += batch.num_rows


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What goes wrong inside is told as a DataError about `path`."""
    try:
        yield
    except pyarrow.ArrowException as error:
        raise DataError(f"{path} is no whole Parquet file: {line(error)}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} has a column whose name is not UTF-8: {line(error)}") from error
    except OSError as error:
        why = error.strerror or line(error)
        raise DataError(f"{path} cannot be read: {why}") from error
