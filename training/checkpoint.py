"""Network <-> ckpt.pt: plain types and tensors only, loadable with `weights_only=True`.

The file holds what freezing needs and nothing of the training run; the state a run resumes
from is its own file (loop.py).
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
FAMILIES = ("luminanet", "gpt2", "baseline")


@dataclass(frozen=True, slots=True)
class BaselineNet:
    """An image network of training.baselines: its name, its parameters and its buffers."""

    network: str
    tensors: Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained network and what is needed to use it (tokenizer JSON or class labels)."""

    name: str
    net: FrozenNet | Gpt2Net
    tokenizer: str | None = None
    labels: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    command: str = ""


@dataclass(frozen=True, slots=True)
class BaselineCheckpoint:
    """A trained image baseline: compared with, never frozen, so no Checkpoint."""

    name: str
    net: BaselineNet
    labels: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    command: str = ""


def save(path: Path, checkpoint: Checkpoint | BaselineCheckpoint) -> None:
    """Writes ckpt.pt under a temporary name and renames it into place."""
    body = {
        "format": FORMAT,
        "name": checkpoint.name,
        "labels": list(checkpoint.labels),
        "figures": dict(checkpoint.figures),
        "command": checkpoint.command,
    }
    if isinstance(checkpoint, Checkpoint):
        body["tokenizer"] = checkpoint.tokenizer
    write_torch(path, body | _family(checkpoint.net))


def _family(net: FrozenNet | Gpt2Net | BaselineNet) -> dict[str, Any]:
    match net:
        case FrozenNet():
            return {"family": "luminanet", "net": pack_net(net)}
        case Gpt2Net(config, arrays):
            return {"family": "gpt2", "config": asdict(config), "tensors": _tensors(arrays)}
        case BaselineNet(network, tensors):
            return {"family": "baseline", "network": network, "tensors": dict(tensors)}


def load(path: Path) -> Checkpoint:
    """Raises CheckpointError when the file is missing, damaged, of another format, or holds a
    network that is only compared with."""
    raw = _read(path)
    if raw["family"] == "baseline":
        raise CheckpointError(
            f"{path} holds {raw.get('network')}, which is only compared with: a LuminaNet or a "
            "GPT-2 can be frozen and served, and `python -m benchmarks.cifar10` reads the others"
        )
    with _damage(path):
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


def load_baseline(path: Path) -> BaselineCheckpoint:
    """As `load`, for what is only compared with."""
    raw = _read(path)
    if raw["family"] != "baseline":
        raise CheckpointError(f"{path} holds a {raw['family']} network, not a baseline for images")
    with _damage(path):
        return BaselineCheckpoint(
            name=raw["name"],
            net=BaselineNet(raw["network"], raw["tensors"]),
            labels=tuple(raw["labels"]),
            figures=raw["figures"],
            command=raw["command"],
        )


def _read(path: Path) -> dict[str, Any]:
    raw = read_torch(path)
    if raw.get("format") != FORMAT or raw.get("family") not in FAMILIES:
        raise CheckpointError(
            f"{path} has format {raw.get('format')!r}; this build reads {FORMAT}: "
            "make it again with `python -m training.train`"
        )
    return raw


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
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
    arrays = {field.name: getattr(weights, field.name) for field in fields(weights)}
    return {name: array for name, array in arrays.items() if array is not None}


def _tensors(arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
