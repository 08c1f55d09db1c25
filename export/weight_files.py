"""Weights from the files of others, as float32: model.safetensors and pytorch_model.bin."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from luminanet.errors import CheckpointError, MissingExtraError

BUFFERS = (".attn.bias", ".attn.masked_bias")
"""The causal mask, which old versions of the library stored with the weights."""


def read_safetensors(path: Path) -> dict[str, NDArray[np.float32]]:
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
    """bfloat16 is the upper half of a float32."""
    data = entry["data"]
    match entry["dtype"]:
        case "F32":
            values = np.frombuffer(data, "<f4")
        case "F16":
            values = np.frombuffer(data, "<f2").astype(np.float32)
        case "BF16":
            values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
        case other:
            raise CheckpointError(
                f"{where} is stored as {other}: save the model as float32, float16 or bfloat16"
            )
    return np.asarray(values, np.float32).reshape(entry["shape"])


def read_bin(path: Path) -> dict[str, NDArray[np.float32]]:
    """Of a pickle, torch reads tensors and nothing else. Raises as `read_safetensors`."""
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "export") from error
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        return {
            name: np.array(tensor.float().numpy())
            for name, tensor in found.items()
            if not name.endswith(BUFFERS)
        }
    except Exception as error:  # torch raises many kinds on a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors: {reason}: save it as safetensors"
        ) from error
