"""FrozenNet <-> ckpt.pt: plain types and tensors only, loadable with `weights_only=True`.

The file holds what freezing needs and nothing of the training run; the state a run resumes
from is its own file (loop.py).
"""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from luminanet.errors import CheckpointError, LuminaNetError
from luminanet.frozen import ClusterWeights, FrozenNet, ImageHead, TextHead
from luminanet.gpt2 import Gpt2Config, Gpt2Net
from luminanet.topology import Connection, Topology

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained network and what is needed to use it (tokenizer JSON or class labels)."""

    name: str
    net: FrozenNet | Gpt2Net
    tokenizer: str | None = None
    labels: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    command: str = ""


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Writes ckpt.pt under a temporary name and renames it into place."""
    net = checkpoint.net
    if isinstance(net, Gpt2Net):
        body: dict[str, Any] = {
            "family": "gpt2",
            "config": asdict(net.config),
            "tensors": _tensors(net.tensors),
        }
    else:
        body = {"family": "luminanet", "net": pack_net(net)}
    body |= {
        "format": FORMAT,
        "name": checkpoint.name,
        "tokenizer": checkpoint.tokenizer,
        "labels": list(checkpoint.labels),
        "figures": dict(checkpoint.figures),
        "command": checkpoint.command,
    }
    write_torch(path, body)


def load(path: Path) -> Checkpoint:
    """Raises CheckpointError when the file is missing, damaged, or of another format."""
    raw = read_torch(path)
    if raw.get("format") != FORMAT or raw.get("family") not in ("luminanet", "gpt2"):
        raise CheckpointError(
            f"{path} has format {raw.get('format')!r}; this build reads {FORMAT}: "
            "make it again with `python -m training.train`"
        )
    try:
        if raw["family"] == "gpt2":
            net: FrozenNet | Gpt2Net = Gpt2Net(Gpt2Config(**raw["config"]), _arrays(raw["tensors"]))
        else:
            net = unpack_net(raw["net"])
        return Checkpoint(
            name=raw["name"],
            net=net,
            tokenizer=raw["tokenizer"],
            labels=tuple(raw["labels"]),
            figures=raw["figures"],
            command=raw["command"],
        )
    except (KeyError, TypeError, AttributeError, ValueError, LuminaNetError) as error:
        raise CheckpointError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def pack_net(net: FrozenNet) -> dict[str, Any]:
    """A FrozenNet as plain types and tensors."""
    return {
        "topology": net.topology.to_json(),
        "clusters": {key: _tensors(_as_dict(w)) for key, w in net.clusters.items()},
        "gates": torch.tensor([net.gates[c] for c in net.topology.connections]),
        "head": _tensors(_as_dict(net.head)),
    }


def unpack_net(raw: Mapping[str, Any]) -> FrozenNet:
    topology = Topology.from_json(raw["topology"])
    head = _arrays(raw["head"])
    connections: tuple[Connection, ...] = topology.connections
    return FrozenNet(
        topology=topology,
        clusters={key: ClusterWeights(**_arrays(w)) for key, w in raw["clusters"].items()},
        gates=dict(zip(connections, raw["gates"].tolist(), strict=True)),
        head=TextHead(**head) if "embed_VE" in head else ImageHead(**head),
    )


def write_torch(path: Path, body: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    fresh = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(dict(body), file)
            file.flush()
            os.fsync(file.fileno())
        fresh.chmod(0o644)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def read_torch(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise CheckpointError(f"{path} is not there: train one with `python -m training.train`")
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds on a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is not a checkpoint or is damaged: {reason}") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} is not a LuminaNet checkpoint")
    return raw


def _as_dict(weights: ClusterWeights | ImageHead | TextHead) -> dict[str, np.ndarray[Any, Any]]:
    return {field.name: getattr(weights, field.name) for field in fields(weights)}


def _tensors(arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
