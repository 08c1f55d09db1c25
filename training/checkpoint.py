"""Network <-> ckpt.pt: plain types and tensors only, loadable with `weights_only=True`.

The file holds what freezing needs and nothing of the training run; the state a run resumes
from is its own file (run/run.py). What was stored in another floating type is float32 afterwards.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from luminanet.errors import CheckpointError, LuminaNetError
from luminanet.finite import check_finite, weights
from luminanet.frozen import ClusterWeights, FrozenNet, ImageHead, TextHead
from luminanet.gpt2 import Gpt2Config, Gpt2Net
from luminanet.tokenizer import Tokenizer
from luminanet.topology import Connection, Topology
from luminanet.untrusted import line, mapping, number, plain, shown, whole
from training.torch_files import read_torch, write_torch

FORMAT = 1
FAMILIES = ("luminanet", "gpt2", "baseline")
MOST_SIZE = 1 << 24
"""The largest vocabulary, context, .. of a GPT-2 that is read."""


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
    network that is only compared with or that has diverged."""
    raw = _read(path)
    if raw["family"] == "baseline":
        raise CheckpointError(
            f"{path} holds {line(raw.get('network'))}, which is only compared with: a LuminaNet or "
            "a GPT-2 can be frozen and served, and `python -m benchmarks.cifar10` reads the others"
        )
    with damage(path):
        net = _gpt2(raw) if raw["family"] == "gpt2" else unpack_net(raw["net"])
        checkpoint = Checkpoint(net=net, tokenizer=_tokenizer(raw["tokenizer"]), **_said(raw))
    check_finite(weights(net), path)
    return checkpoint


def load_baseline(path: Path) -> BaselineCheckpoint:
    """As `load`, for what is only compared with."""
    raw = _read(path)
    if raw["family"] != "baseline":
        raise CheckpointError(f"{path} holds a {raw['family']} network, not a baseline for images")
    with damage(path):
        tensors = dict(raw["tensors"])
        net = BaselineNet(plain(raw["network"], "network"), tensors)
        checkpoint = BaselineCheckpoint(net=net, **_said(raw))
        arrays = [(name, tensor.detach().float().numpy()) for name, tensor in tensors.items()]
    check_finite(arrays, path)
    return checkpoint


def _read(path: Path) -> dict[str, Any]:
    raw = read_torch(path)
    found = raw.get("format")
    if type(found) is not int:
        what = "it is the state of a run" if "trainer" in raw else "it says no format"
        raise CheckpointError(
            f"{path} is not a LuminaNet checkpoint ({what}): name a ckpt.pt that "
            "`python -m training.train` wrote"
        )
    if found != FORMAT:
        mend = (
            "it was written by a newer version: update LuminaNet"
            if found > FORMAT
            else "make it again with `python -m training.train`"
        )
        raise CheckpointError(f"{path} has format {found}; this build reads {FORMAT}: {mend}")
    if raw.get("family") not in FAMILIES:
        raise CheckpointError(
            f"{path} holds a network of the family {shown(raw.get('family'))}, and this build "
            f"reads {', '.join(FAMILIES)}: update LuminaNet, or make it again with "
            "`python -m training.train`"
        )
    return raw


@contextmanager
def damage(path: Path) -> Iterator[None]:
    """Whatever is wrong inside is the file's fault."""
    try:
        yield
    except Exception as error:  # any value may be anything
        kind = "" if isinstance(error, LuminaNetError | ValueError) else f"{type(error).__name__}: "
        raise CheckpointError(f"{path} is damaged: {kind}{line(error)}") from error


def _said(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What all checkpoints say beside their network. Raises ValueError."""
    labels, figures = raw["labels"], mapping(raw["figures"], "figures")
    if not isinstance(labels, list | tuple):
        raise ValueError(f"its labels are {shown(labels)}, not a list")
    return {
        "name": plain(raw["name"], "name"),
        "labels": tuple(plain(label, "a label") for label in labels),
        "figures": {name: _figure(value, name) for name, value in figures.items()},
        "command": plain(raw["command"], "command"),
    }


def _figure(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"the figure {name} is {shown(value)}, not a number")
    if not math.isfinite(value):
        raise ValueError(f"the figure {name} is {value}: training diverged; take an earlier one")
    return value


def _tokenizer(text: object) -> str | None:
    """Raises LuminaNetError unless there is none, or one that can be read."""
    if text is None:
        return None
    if not isinstance(text, str):
        raise ValueError(f"the tokenizer is {shown(text)}, not JSON")
    Tokenizer.from_json(text)
    return text


def _gpt2(raw: Mapping[str, Any]) -> Gpt2Net:
    config = mapping(raw["config"], "config")
    for name, value in config.items():
        if name == "activation":
            plain(value, name)
        elif name == "norm_epsilon":
            number(value, name)
        elif name == "tied":
            if not isinstance(value, bool):
                raise ValueError(f"{name} is {shown(value)}, neither true nor false")
        elif not (name == "inner" and value is None):
            whole(value, name, MOST_SIZE, 1)
    return Gpt2Net(Gpt2Config(**config), _arrays(raw["tensors"]))


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
        gates=dict(zip(connections, _gates(raw["gates"]), strict=True)),
        head=TextHead(**head) if "embed_VE" in head else ImageHead(**head),
    )


def _gates(tensor: torch.Tensor) -> list[float]:
    gates: list[float] = _float32(tensor, "gates").reshape(len(tensor)).tolist()
    return gates


def _as_dict(weights: ClusterWeights | ImageHead | TextHead) -> dict[str, np.ndarray[Any, Any]]:
    arrays = {field.name: getattr(weights, field.name) for field in fields(weights)}
    return {name: array for name, array in arrays.items() if array is not None}


def _tensors(arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def _arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    return {name: _float32(tensor, name) for name, tensor in tensors.items()}


def _float32(tensor: torch.Tensor, name: str) -> np.ndarray[Any, Any]:
    """Raises ValueError unless it holds floats, all within float32."""
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        kind = getattr(tensor, "dtype", type(tensor).__name__)
        raise ValueError(f"{name} is stored as {kind}: save it as float32")
    stored = tensor.detach().cpu()
    array = stored.float()
    if stored.dtype == torch.float64 and (array.isinf() & stored.isfinite()).any():
        raise ValueError(f"{name} has numbers that are too large for float32")
    return np.ascontiguousarray(array.numpy())
