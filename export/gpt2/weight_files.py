"""Weights from the files of others, as float32, of a directory in one of these forms:

model.safetensors                or pytorch_model.bin
model.safetensors.index.json     or pytorch_model.bin.index.json: which of several files, the
                                 shards, holds which tensor
"""

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.gpt2.json_files import read_json
from luminanet.errors import CheckpointError, MissingExtraError
from luminanet.untrusted import line, shown

Weights = Mapping[str, NDArray[np.float32]]
SAFETENSORS, BIN, INDEX = "model.safetensors", "pytorch_model.bin", ".index.json"
BUFFERS = (".attn.bias", ".attn.masked_bias")
"""The causal mask, which old versions of the library stored with the weights."""
FLOATS = "float32, float16, bfloat16 or float64"


def read_weights(directory: Path) -> Weights:
    """All tensors of a directory. Raises CheckpointError, or MissingExtraError without the library
    that reads its kind of file."""
    file, reader = _source(directory)
    if file.name.endswith(INDEX):
        return _sharded(file, reader)
    return reader(file)


def weight_files(directory: Path) -> list[Path]:
    """The files that `read_weights` reads."""
    file, _ = _source(directory)
    if not file.name.endswith(INDEX):
        return [file]
    return [file, *(directory / name for name in sorted(set(_weight_map(file).values())))]


def _source(directory: Path) -> tuple[Path, Callable[[Path], Weights]]:
    kinds = {SAFETENSORS: read_safetensors, BIN: read_bin}
    for name, reader in kinds.items():
        for file in (directory / name, directory / f"{name}{INDEX}"):
            if file.is_file():
                return file, reader
    raise CheckpointError(
        f"{directory} has neither {SAFETENSORS} nor {BIN}, and no {INDEX} of several such files: "
        "save the model with save_pretrained"
    )


def _weight_map(index: Path) -> Mapping[str, str]:
    """Tensor -> the name of the file beside the index that holds it."""
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise CheckpointError(f"{index} is damaged: it has no weight_map")
    for tensor, name in found.items():
        if not isinstance(name, str) or not _is_plain(name):
            raise CheckpointError(
                f"{index} says that {line(tensor)} is in {shown(name)}, which is no file beside "
                "it: take the directory from where you trust it"
            )
    return found


def _is_plain(name: str) -> bool:
    """Neither a path nor the folder itself, on any system."""
    ways = (PurePosixPath(name), PureWindowsPath(name))
    return all(way.name == name for way in ways) and name.isprintable() and name not in ("", "..")


def _sharded(index: Path, reader: Callable[[Path], Weights]) -> Weights:
    named = _weight_map(index)
    tensors: dict[str, NDArray[np.float32]] = {}
    for name in sorted(set(named.values())):
        shard = index.with_name(name)
        if not shard.is_file():
            raise CheckpointError(f"{shard} is missing, and {index.name} names it: download it")
        found = reader(shard)
        if twice := sorted(set(found) & set(tensors)):
            raise CheckpointError(f"{index.parent} has {twice[0]} in two files, {name} is one")
        if odd := sorted(tensor for tensor in found if named.get(tensor) != name):
            raise CheckpointError(
                f"{shard} holds {odd[0]}, and {index.name} does not say so: download both again"
            )
        tensors |= found
    wanted = {tensor for tensor in named if not tensor.endswith(BUFFERS)}
    if missing := sorted(wanted - set(tensors)):
        raise CheckpointError(
            f"{index.parent / named[missing[0]]} has no {line(missing[0])}, and {index.name} says "
            "so: download both again"
        )
    return tensors


def read_safetensors(path: Path) -> Weights:
    """Raises CheckpointError, or MissingExtraError without the library."""
    try:
        import safetensors
    except ImportError as error:
        raise MissingExtraError("safetensors", "export") from error
    deserialize: Any = safetensors.deserialize
    try:
        found = deserialize(path.read_bytes())
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}: download or save it again") from error
    return {
        name: _float32(entry, f"{name} of {path}")
        for name, entry in found
        if not name.endswith(BUFFERS)
    }


def _float32(entry: Mapping[str, Any], where: str) -> NDArray[np.float32]:
    """bfloat16 is the upper half of a float32; what float32 cannot hold becomes infinite."""
    data = entry["data"]
    match entry["dtype"]:
        case "F32":
            values = np.frombuffer(data, "<f4")
        case "F16":
            values = np.frombuffer(data, "<f2").astype(np.float32)
        case "BF16":
            values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        case "F64":
            with np.errstate(over="ignore"):
                values = np.frombuffer(data, "<f8").astype(np.float32)
        case other:
            raise CheckpointError(f"{where} is stored as {other}: save the model as {FLOATS}")
    return np.asarray(values, np.float32).reshape(entry["shape"])


def read_bin(path: Path) -> Weights:
    """Of a pickle, torch reads tensors and nothing else. Raises as `read_safetensors`."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "export") from error
    try:
        _check_sums(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {n: tensor.detach() for n, tensor in found.items() if not n.endswith(BUFFERS)}
        kinds = {name: str(tensor.dtype).removeprefix("torch.") for name, tensor in tensors.items()}
        arrays = {name: np.array(tensor.float().numpy()) for name, tensor in tensors.items()}
    except Exception as error:  # torch raises many kinds on a damaged file
        reason = str(error) or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # torch advises to read it all the same
            reason = "only tensors are read"
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors: {line(reason)}: save it as safetensors"
        ) from error
    for name, kind in kinds.items():
        if kind not in FLOATS.replace(",", " ").split():
            raise CheckpointError(f"{name} of {path} is stored as {kind}: save it as {FLOATS}")
    return arrays


def _check_sums(path: Path) -> None:
    """torch does not compare the sums that its archive carries. Raises ValueError."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} does not match its sum")
