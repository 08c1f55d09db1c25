"""A TensorRT plan beside the graph it was built from, and which machine may run it.

    model.plan         what TensorRT's builder made: machine code, to be trusted like a program
    model.plan.json    this file's PlanInfo: what it was built from, by, and for

A plan runs only where its key fits: the same graph, the same library in the same version, and a
GPU of a compute capability that it was built for. No artifact lists its plan in the manifest,
because a plan belongs to a machine, and the same checkpoint gives other bytes on each.
"""

import hashlib
import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from luminanet.artifact.directory import MAX_MANIFEST_BYTES
from luminanet.artifact.gpu import Gpu
from luminanet.artifact.manifest import MAX_FILE_BYTES, MODEL, FileEntry
from luminanet.errors import ArtifactError, ConfigError
from luminanet.untrusted import line, mapping, parse, plain, shown, whole

FORMAT = 1
PLAN = "model.plan"
MODULES = ("tensorrt", "tensorrt_rtx")
"""Python modules with TensorRT's interface, the preferred one first."""
REBUILD = "python -m export.build_engine"
WORDS = re.compile(r"[A-Za-z0-9_.:= -]*")
"""What options and names consist of that people are told to type."""
MAX_SIZE = 1 << 31


@dataclass(frozen=True, slots=True)
class Profile:
    """Batch sizes that one optimisation profile accepts; `opt` is the one it is made fast for."""

    min: int = 1
    opt: int = 64
    max: int = 1024

    def __post_init__(self) -> None:
        sizes = (self.min, self.opt, self.max)
        if (
            any(type(size) is not int for size in sizes)
            or not 1 <= self.min <= self.opt <= self.max
        ):
            raise ConfigError(f"profile {self} needs 1 <= min <= opt <= max, for example 1:64:1024")

    def __str__(self) -> str:
        return f"{self.min}:{self.opt}:{self.max}"

    @staticmethod
    def parse(text: str) -> "Profile":
        """min:opt:max, or one batch size alone. Raises ConfigError."""
        parts = text.split(":")
        if len(parts) not in (1, 3) or not all(part.isascii() and part.isdigit() for part in parts):
            raise ConfigError(f"profile {text!r} is not min:opt:max, for example 1:64:1024")
        # One number stands for all three; of three, the first copy is taken.
        low, opt, high = (int(part) for part in (parts * 3)[:3])
        return Profile(low, opt, high)


@dataclass(frozen=True, slots=True)
class PlanInfo:
    """What a plan was built from, by and for; all of it but `plan` and `command` is its key."""

    onnx_sha256: str
    module: str
    version: str
    capabilities: tuple[str, ...]
    """Compute capabilities that may run it, such as "9.0"."""
    profiles: tuple[Profile, ...]
    sizes: Mapping[str, int]
    """Free dimensions of the graph beside the batch, which the plan holds fixed."""
    plan: FileEntry
    command: str = ""
    """Options of `python -m export.build_engine` that build it again."""
    model: str = MODEL
    format: int = field(default=FORMAT)

    @property
    def key(self) -> str:
        profiles = [str(profile) for profile in self.profiles]
        parts = [self.onnx_sha256, self.module, self.version, list(self.capabilities), profiles]
        return hashlib.sha256(json.dumps([*parts, sorted(self.sizes.items())]).encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps({"key": self.key, **asdict(self)}, indent=2) + "\n"

    @staticmethod
    def from_json(text: str, where: str) -> "PlanInfo":
        try:
            raw = parse(text)
            if raw["format"] != FORMAT:
                raise ValueError(f"format {shown(raw['format'])}, this build reads {FORMAT}")
            return _info(raw)
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
            ConfigError,
        ) as bad:
            raise ArtifactError(
                f"{where} is damaged ({type(bad).__name__}: {line(bad)}): rebuild the plan with "
                f"`{REBUILD}`"
            ) from bad


def _info(raw: dict[str, Any]) -> PlanInfo:
    raw = dict(raw)
    key = raw.pop("key")
    if not (isinstance(raw["capabilities"], list) and isinstance(raw["profiles"], list)):
        raise TypeError("capabilities and profiles must be lists")
    raw["capabilities"] = tuple(plain(text, "a capability") for text in raw["capabilities"])
    raw["profiles"] = tuple(Profile(**profile) for profile in raw["profiles"])
    raw["plan"] = FileEntry(**mapping(raw["plan"], "plan"))
    sizes = mapping(raw["sizes"], "sizes").items()
    raw["sizes"] = {name: whole(size, name, MAX_SIZE, least=1) for name, size in sizes}
    info = PlanInfo(**raw)
    for name in ("onnx_sha256", "module", "version"):
        plain(getattr(info, name), name)
    plain(info.plan.sha256, "sha256")
    whole(info.plan.bytes, "bytes", MAX_FILE_BYTES)
    for name in ("command", "model"):
        if not WORDS.fullmatch(plain(getattr(info, name), name)):
            raise ValueError(f"{name} is {shown(getattr(info, name))}, which nobody should type")
    if not info.profiles:
        raise ValueError("there is no profile")
    if info.module not in MODULES:
        raise ValueError(f"module {shown(info.module)} is none of {', '.join(MODULES)}")
    if info.key != key:
        raise ValueError("its key does not match what it says")
    return info


def installed_version(module: str) -> str | None:
    """The version of a TensorRT module; None when it is missing or its libraries are."""
    try:
        return str(importlib.import_module(module).__version__)
    except (ImportError, OSError, AttributeError):
        return None


def check_machine(info: PlanInfo, gpu: Gpu | None, version: str | None, where: str) -> None:
    """Raises ArtifactError unless this machine can run the plan; the error says how to mend it.

    `version` is that of the module the plan was built with, here; None when it is missing.
    """
    again = rebuild_command(Path(where).parent, info)
    if version is None:
        raise ArtifactError(
            f"{where} was built with {info.module} {info.version}, which is not installed: "
            f"install that, or serve the artifact without a plan"
        )
    if version != info.version:
        raise ArtifactError(
            f"{where} was built with {info.module} {info.version}, here is {version}: "
            f"rebuild it with {again}"
        )
    if gpu is None:
        raise ArtifactError(
            f"{where} is a plan for a GPU, and this machine shows none (no driver, or no device "
            f"in the container): serve the artifact on the CPU, or rebuild the plan on a machine "
            f"with a GPU with {again}"
        )
    if gpu.capability not in info.capabilities:
        raise ArtifactError(
            f"{where} was built for compute capability {', '.join(info.capabilities)}; "
            f"this {gpu.name} has {gpu.capability}: rebuild it with {again}"
        )


def open_plan(path: Path) -> PlanInfo:
    """What the JSON beside a plan says. Raises ArtifactError when it is missing or damaged."""
    where = beside(path)
    if where.is_symlink() or not where.is_file() or where.stat().st_size > MAX_MANIFEST_BYTES:
        raise ArtifactError(
            f"{where} is missing or not a plain file: build a plan with `{REBUILD} {path.parent}`"
        )
    return PlanInfo.from_json(where.read_bytes().decode("utf-8", "replace"), str(where))


def read_plan(path: Path, info: PlanInfo, onnx_sha256: str) -> bytes:
    """The plan's bytes, after the graph's hash and the plan's own were checked (ArtifactError)."""
    again = f"rebuild it with {rebuild_command(path.parent, info)}"
    if info.onnx_sha256 != onnx_sha256:
        raise ArtifactError(f"{path} was built from another {info.model}: {again}")
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
        raise ArtifactError(f"{path} is missing or not a plain file: {again}")
    data = path.read_bytes()
    if len(data) != info.plan.bytes or hashlib.sha256(data).hexdigest() != info.plan.sha256:
        raise ArtifactError(f"{path} does not match the hash beside it: {again}")
    return data


def rebuild_command(directory: Path, info: PlanInfo) -> str:
    """The command that builds this plan again, in backquotes."""
    model = f"--model {info.model}" if info.model != MODEL else ""
    return f"`{' '.join(filter(None, [REBUILD, str(directory), model, info.command]))}`"


def beside(path: Path) -> Path:
    """model.plan -> model.plan.json."""
    return path.with_name(f"{path.name}.json")
