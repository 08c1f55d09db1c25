import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luminanet.artifact.gpu import Gpu, find_gpu
from luminanet.artifact.manifest import FileEntry
from luminanet.artifact.tensorrt_plan import (
    PlanInfo,
    Profile,
    beside,
    check_machine,
    installed_version,
    open_plan,
    read_plan,
)
from luminanet.errors import ArtifactError, ConfigError

DATA = b"machine code"
INFO = PlanInfo(
    onnx_sha256="a" * 64,
    module="tensorrt",
    version="11.4.0",
    capabilities=("9.0",),
    profiles=(Profile(), Profile(1, 1, 1)),
    sizes={"steps": 1},
    plan=FileEntry(hashlib.sha256(DATA).hexdigest(), len(DATA)),
    command="--profile 1:64:1024 --profile 1:1:1 --size steps=1",
)
HOPPER = Gpu("H100", "9.0")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    plan = tmp_path / "model.plan"
    plan.write_bytes(DATA)
    beside(plan).write_text(INFO.to_json())
    return plan


def test_what_was_written_is_read(path: Path) -> None:
    assert open_plan(path) == INFO
    assert read_plan(path, INFO, INFO.onnx_sha256) == DATA


@pytest.mark.parametrize(
    "change",
    [
        {"onnx_sha256": "b" * 64},
        {"module": "tensorrt_rtx"},
        {"version": "11.4.1"},
        {"capabilities": ("8.9",)},
        {"profiles": (Profile(),)},
        {"sizes": {"steps": 2}},
    ],
)
def test_the_key_tells_everything_that_a_plan_depends_on(change: dict[str, Any]) -> None:
    assert replace(INFO, **change).key != INFO.key


def test_the_key_is_not_that_of_the_bytes_which_differ_from_build_to_build() -> None:
    assert replace(INFO, plan=FileEntry("c" * 64, 1), command="").key == INFO.key


def test_a_machine_that_fits_may_run_it() -> None:
    check_machine(INFO, HOPPER, "11.4.0", "artifact/model.plan")


@pytest.mark.parametrize(
    ("gpu", "version", "message"),
    [
        (None, "11.4.0", "this machine shows none"),
        (Gpu("L4", "8.9"), "11.4.0", "this L4 has 8.9"),
        (HOPPER, "11.5.0", "here is 11.5.0"),
    ],
)
def test_another_machine_is_refused_with_the_command_that_rebuilds_it(
    gpu: Gpu | None, version: str, message: str
) -> None:
    with pytest.raises(ArtifactError, match=message) as caught:
        check_machine(INFO, gpu, version, "artifact/model.plan")
    assert f"`python -m export.build_engine artifact {INFO.command}`" in str(caught.value)


def test_the_command_names_the_graph_unless_it_is_the_plain_one() -> None:
    info = replace(INFO, model="model.fp16.onnx")
    command = f"`python -m export.build_engine artifact --model model.fp16.onnx {INFO.command}`"
    with pytest.raises(ArtifactError) as caught:
        check_machine(info, None, "11.4.0", "artifact/model.fp16.plan")
    assert command in str(caught.value)


def test_a_description_says_nothing_to_a_terminal(path: Path) -> None:
    told = json.loads(INFO.to_json()) | {"version": "11\x1b]0;owned\x07"}
    beside(path).write_text(json.dumps(told))
    with pytest.raises(ArtifactError, match="not plain text") as caught:
        open_plan(path)
    assert "\x1b" not in str(caught.value)


def test_a_missing_library_is_named_with_its_version() -> None:
    with pytest.raises(ArtifactError, match=r"tensorrt 11\.4\.0, which is not installed"):
        check_machine(INFO, HOPPER, None, "artifact/model.plan")


def test_a_plan_of_another_graph_is_refused(path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"another model\.onnx: rebuild it with"):
        read_plan(path, INFO, "b" * 64)


@pytest.mark.parametrize("data", [b"", b"machine c0de", b"machine code "])
def test_a_changed_plan_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match="does not match the hash"):
        read_plan(path, INFO, INFO.onnx_sha256)


def test_a_link_is_refused(path: Path, tmp_path: Path) -> None:
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="not a plain file"):
        read_plan(path, INFO, INFO.onnx_sha256)
    beside(path).rename(tmp_path / "told")
    beside(path).symlink_to(tmp_path / "told")
    with pytest.raises(ArtifactError, match="not a plain file"):
        open_plan(path)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"key": "0"},
        {"version": "12"},
        {"capabilities": [9]},
        {"capabilities": "9.0"},
        {"profiles": []},
        {"profiles": [{"min": 2, "opt": 1, "max": 1}]},
        {"sizes": {"steps": "1"}},
        {"sizes": 3},
        {"sizes": {"steps": 0}},
        {"plan": {}},
        {"plan": {"sha256": 3, "bytes": 12}},
        {"plan": {"sha256": "a", "bytes": True}},
        {"command": "; echo owned"},
        {"command": "$(echo owned)"},
        {"model": "`echo owned`"},
        {"module": "os"},
        {"model": None},
        {"more": 1},
    ],
)
def test_a_damaged_description_is_refused(path: Path, change: dict[str, Any]) -> None:
    beside(path).write_text(json.dumps(json.loads(INFO.to_json()) | change))
    with pytest.raises(ArtifactError, match=r"rebuild the plan with `python -m export"):
        open_plan(path)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '"x"', "\x00"])
def test_what_is_no_description_is_refused(path: Path, text: str) -> None:
    beside(path).write_text(text)
    with pytest.raises(ArtifactError):
        open_plan(path)


@given(st.lists(st.integers(1, 1 << 20), min_size=3, max_size=3).map(sorted))
def test_a_profile_is_read_as_it_is_written(sizes: list[int]) -> None:
    profile = Profile(*sizes)
    assert Profile.parse(str(profile)) == profile


def test_one_size_alone_is_a_profile() -> None:
    assert Profile.parse("8") == Profile(8, 8, 8)


@pytest.mark.parametrize("text", ["", "1:2", "0:1:1", "2:1:3", "1:2:3:4", "a", "-1", "\u0663"])
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="1:64:1024"):
        Profile.parse(text)


def test_a_library_that_is_not_there_has_no_version() -> None:
    assert installed_version("no_such_tensorrt") is None
    assert installed_version("json") == json.__version__  # type: ignore[attr-defined]


def test_without_a_driver_there_is_no_gpu() -> None:
    assert find_gpu("libno-such-driver.so") is None
