"""What a CPU is said to have, from what the kernel tells of it."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from luminanet.machine import cpu, line, report

ZEN3 = "fpu sse4_1 avx avx2 fma"
ZEN5 = f"{ZEN3} avx512f avx512bw avx512_vnni avx512_bf16 avx_vnni"
SAPPHIRE = f"{ZEN5} amx_bf16 amx_tile amx_int8"
ALDER = f"{ZEN3} avx_vnni"
GRAVITON = "fp asimd asimddp bf16 i8mm"


def info(folder: Path, flags: str, name: str = "Some CPU", label: str = "flags") -> Path:
    path = folder / "cpuinfo"
    one = f"processor\t: 0\nmodel name\t: {name}\n{label}\t\t: {flags}\n\n"
    path.write_text(one * 2, "utf-8")
    return path


@pytest.mark.parametrize(
    ("flags", "features"),
    [
        ("fpu sse4_1", ()),
        (ZEN3, ("AVX2",)),
        (ALDER, ("AVX2", "VNNI")),
        (ZEN5, ("AVX2", "AVX512", "VNNI", "BF16")),
        (SAPPHIRE, ("AVX2", "AVX512", "VNNI", "BF16", "AMX")),
    ],
)
def test_the_features_are_those_of_the_flags(
    flags: str, features: tuple[str, ...], tmp_path: Path
) -> None:
    found = cpu(info(tmp_path, flags))
    assert found.features == features
    assert (found.name, found.has_bf16) == ("Some CPU", "BF16" in features)


def test_an_arm_cpu_tells_its_features_under_another_name(tmp_path: Path) -> None:
    assert cpu(info(tmp_path, GRAVITON, label="Features")).features == ("VNNI", "BF16")


def test_a_machine_that_tells_nothing_is_taken_for_the_simplest(tmp_path: Path) -> None:
    found = cpu(tmp_path / "nothing")
    assert found.features == ()
    assert found.cores >= 1
    assert "fp32 (bf16 would be emulated" in report(found)


def test_what_follows_is_said(tmp_path: Path) -> None:
    old, new = (report(cpu(info(tmp_path, flags))) for flags in (ZEN3, ZEN5))
    assert "VNNI      no" in old
    assert "16 bits that saturate" in old
    assert "--precision auto is fp32" in old
    assert "exact for any weights" in new
    assert "--precision auto is bf16" in new


def test_the_line_beside_figures_names_features_and_python() -> None:
    assert str(cpu()) in line()
    assert platform.python_version() in line()


def test_the_command_prints_this_machine() -> None:
    command = [sys.executable, "-m", "luminanet.machine"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == report(cpu())
