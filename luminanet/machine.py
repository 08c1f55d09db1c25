"""What this machine's CPU can do, and what follows: `python -m luminanet.machine` prints it.

Linux tells it in /proc/cpuinfo; elsewhere nothing is known, and the choices are the safe ones.
"""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
FLAGS = {
    "AVX2": {"avx2"},
    "AVX512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni", "asimddp"},
    "BF16": {"avx512_bf16", "amx_bf16", "bf16"},
    "AMX": {"amx_tile"},
}
"""Feature -> flags of the kernel, on x86-64 or ARM, any of which means it."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """`cores` are those this process may use; `features` are names of FLAGS, in their order."""

    name: str
    cores: int
    features: tuple[str, ...]

    @property
    def has_bf16(self) -> bool:
        """Whether products of bfloat16 are computed by the hardware; else they are emulated."""
        return "BF16" in self.features

    @property
    def has_vnni(self) -> bool:
        """Whether products of bytes are added in 32 bits; else in pairs in 16, which saturate."""
        return "VNNI" in self.features

    def __str__(self) -> str:
        has = ", ".join(self.features) or "none of the features asked for"
        return f"{self.cores} cores of {self.name} ({has})"


def cores() -> int:
    """CPUs that this process may use: its affinity."""
    affine = getattr(os, "sched_getaffinity", None)
    return len(affine(0)) if affine else os.cpu_count() or 1


def cpu(info: Path = CPUINFO) -> Cpu:
    """The CPU of this machine. Never fails: what is not known is left out."""
    try:
        text = info.read_text("utf-8", errors="replace")
    except OSError:
        text = ""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    return Cpu(
        name=fields.get("model name") or platform.processor() or platform.machine(),
        cores=cores(),
        features=tuple(name for name, any_of in FLAGS.items() if flags & any_of),
    )


def line() -> str:
    """The CPU and its features, and Python: what stands beside every measured figure."""
    return f"{cpu()}, Python {platform.python_version()}"


def report(found: Cpu) -> str:
    """The CPU, and which kernels and precisions follow from it."""
    training = (
        "bf16 (computed by the hardware)"
        if found.has_bf16
        else "fp32 (bf16 would be emulated, several times slower)"
    )
    products = (
        "added in 32 bits, exact for any weights"
        if found.has_vnni
        else "added in pairs in 16 bits that saturate; graphs frozen here or elsewhere are such "
        "that no pair does"
    )
    rows = [
        ("CPU", found.name),
        ("cores", f"{found.cores} that this process may use"),
        *((name, "yes" if name in found.features else "no") for name in FLAGS),
        ("training", f"--precision auto is {training}"),
        ("int8", f"products are {products}"),
    ]
    return "".join(f"{label:<10}{text}\n" for label, text in rows)


if __name__ == "__main__":
    print(report(cpu()), end="")
