"""Plain types and tensors <-> a file of torch, refused unless it is whole.

torch does not look at the check sums that its files carry, and of a file that is none it gives
advice that nobody should follow; what a file is, is found out here.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from luminanet.artifact.files import named, replacing
from luminanet.errors import CheckpointError
from luminanet.untrusted import line

READ_BYTES = 1 << 20
START_BYTES = 512
KINDS = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PAR1", "a Parquet file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80", "a pickle, or a file of an old torch"),
)
"""How files begin that are taken for checkpoints."""
OBJECT = re.compile(r"Unsupported global: GLOBAL (\S+)")
"""What torch says of a pickle that holds more than plain types."""


def write_torch(path: Path, body: Mapping[str, Any]) -> None:
    """Under a temporary name first. Raises OSError, which torch would hide in one of its own."""
    try:
        with replacing(path) as file:
            torch.save(dict(body), file)
    except RuntimeError as error:
        if isinstance(hidden := error.__context__, OSError):
            raise named(hidden, path) from error
        raise


def read_torch(path: Path) -> dict[str, Any]:
    """Raises CheckpointError when the file is missing, damaged, or of another kind."""
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder: name the ckpt.pt in it")
    if not path.exists():
        raise CheckpointError(f"{path} is not there: train one with `python -m training.train`")
    try:
        _check_whole(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch wonders about is refused below
            raw = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # torch raises many kinds
        raise CheckpointError(f"{path} {_why(error)}") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} is not a LuminaNet checkpoint: it holds {_kind(raw)}")
    return raw


def _check_whole(path: Path) -> None:
    """Raises CheckpointError unless it is a zip archive whose check sums are right."""
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} {_told(start)}")
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.CRC:  # 0: it was written without check sums
                    _read_through(archive, member)
    except Exception as error:  # zipfile raises many kinds on a damaged file
        raise CheckpointError(
            f"{path} is damaged ({line(error)}): copy it again, or train it again"
        ) from error


def _read_through(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raises zipfile.BadZipFile at the end of a member that has another check sum."""
    with archive.open(member) as file:
        while file.read(READ_BYTES):
            pass


def _told(start: bytes) -> str:
    """What a file is that is no zip archive, by its first bytes."""
    if not start:
        return "is empty, and damaged: copy it again, or train it again"
    if start.startswith(b"PK"):
        return "is damaged: its end is missing; copy it again, or train it again"
    kinds = [kind for first, kind in KINDS if start.startswith(first)]
    if start[8:10] == b'{"':
        kinds = ["a safetensors file"]
    elif not kinds and re.fullmatch(rb"[\t\n\r\x20-\x7e\x80-\xff]+", start):
        kinds = ["a text file"]
    what = kinds[0] if kinds else "something else, or damaged"
    return f"is no checkpoint: it is {what}; name a ckpt.pt that `python -m training.train` wrote"


def _why(error: Exception) -> str:
    """The reason that torch gives, without its advice."""
    text = str(error)
    if found := OBJECT.search(text):
        what = f"holds an object of Python ({line(found[1])}) and not only plain types and tensors"
    elif isinstance(error, pickle.UnpicklingError):
        what = "holds more than plain types and tensors, or is damaged"
    elif "TorchScript" in text:
        what = "is a TorchScript program"
    else:
        reason = text.splitlines()[0] if text else type(error).__name__
        what = f"is a zip archive but no checkpoint, or damaged: {line(reason)}"
    return f"{what}: name a ckpt.pt that `python -m training.train` wrote"


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
