import hashlib
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import build_engine
from export.assembly.describe import Label
from export.build_engine import RTX, build_plan, main
from export.gpt2.cached import unroll_gpt2
from export.gpt2.standard_ops import unroll_plain_gpt2
from export.gpu.engine_process import run
from export.gpu.engine_shapes import PlanOptions, shapes_of
from export.graph.builder import Graph
from export.network.unroll import unroll
from luminanet.artifact.gpu import Gpu
from luminanet.artifact.manifest import TENSORRT_MODEL
from luminanet.artifact.tensorrt_plan import (
    Profile,
    installed_version,
    open_plan,
    read_plan,
    rebuild_command,
)
from luminanet.errors import ConfigError, ExportError, MissingExtraError
from tests.nets import (
    random_gpt2,
    random_net,
    tiny_tokenizer,
    write_artifact,
    write_tiny_artifacts,
)

PRETRAINED = Path(__file__).parents[2] / "pretrained"
SMALL = PlanOptions((Profile(1, 2, 4),), module=RTX)
with_rtx = pytest.mark.skipif(not installed_version(RTX), reason="tensorrt-rtx is not installed")


def small_graph(dtype: Any = np.float32) -> bytes:
    """[batch, 8] -> [batch, 4], computed in `dtype`."""
    graph, to = Graph("small"), helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = graph.constant("weights", np.ones((8, 4), dtype))
    x = graph.node("Cast", [graph.input("x", np.float32, ["batch", 8])], "narrow", to=to)
    product = graph.node("Gelu", [graph.node("MatMul", [x, weights], "product")], "gelu")
    graph.node("Cast", [product], "y", to=TensorProto.FLOAT)
    graph.output("y", np.float32, ["batch", 4])
    return bytes(graph.build().SerializeToString())


def quantised_graph() -> bytes:
    """The same in int8, as QuantizeLinear and DequantizeLinear around a product."""
    graph = Graph("small")
    scale = graph.constant("scale", np.array(0.02, np.float32))
    zero = graph.constant("zero", np.array(0, np.int8))
    weights = graph.constant("weights", np.ones((8, 4), np.int8))
    x = graph.node("QuantizeLinear", [graph.input("x", np.float32, ["batch", 8]), scale, zero], "q")
    x = graph.node("DequantizeLinear", [x, scale, zero], "d")
    graph.node("Gemm", [x, graph.node("DequantizeLinear", [weights, scale, zero], "w")], "y")
    graph.output("y", np.float32, ["batch", 4])
    return bytes(graph.build().SerializeToString())


@with_rtx
@pytest.mark.parametrize("name", ["luminanet-cifar10", "luminanet-tinystories"])
def test_the_shipped_networks_become_plans_without_a_gpu(name: str, tmp_path: Path) -> None:
    model = (PRETRAINED / name / "artifact" / "model.onnx").read_bytes()
    told: list[str] = []
    options = PlanOptions(module=RTX, capability="8.9")
    info = build_plan(model, tmp_path / "model.plan", options, progress=told.append)
    assert open_plan(tmp_path / "model.plan") == info
    digest = hashlib.sha256(model).hexdigest()
    assert len(read_plan(tmp_path / "model.plan", info, digest)) == info.plan.bytes > 100_000
    assert (info.module, info.capabilities, info.profiles) == (RTX, ("8.9",), (Profile(),))
    assert any("Building engine" in line for line in told)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.plan", "model.plan.json"]


@with_rtx
@pytest.mark.parametrize(
    "model", [small_graph(np.float16), quantised_graph()], ids=["fp16", "int8 QDQ"]
)
def test_precision_comes_from_the_dtypes_of_the_graph(model: bytes, tmp_path: Path) -> None:
    assert build_plan(model, tmp_path / "model.plan", SMALL).plan.bytes > 1000


@with_rtx
def test_a_network_of_clusters_that_see_nothing_becomes_a_plan(tmp_path: Path) -> None:
    model = unroll(random_net(1, text=False)).SerializeToString()
    assert build_plan(model, tmp_path / "odd.plan", SMALL).model == "odd.onnx"


@with_rtx
def test_the_plain_form_of_a_gpt2_becomes_a_plan_and_the_fast_one_is_refused(
    tmp_path: Path,
) -> None:
    net, options = random_gpt2(0), PlanOptions((Profile(1, 2, 4),), {"steps": 1}, module=RTX)
    plain = unroll_plain_gpt2(net).SerializeToString()
    assert build_plan(plain, tmp_path / "plain.plan", options).sizes == {"steps": 1}
    with pytest.raises(ExportError, match=r"layer0/attention.*another graph with --model"):
        build_plan(unroll_gpt2(net).SerializeToString(), tmp_path / "model.plan", options)
    assert not (tmp_path / "model.plan").exists()


@with_rtx
def test_a_gpt2_of_an_artifact_is_built_from_the_graph_made_for_tensorrt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer, artifact = tiny_tokenizer(), tmp_path / "artifact"
    net = random_gpt2(0, replace(random_gpt2(0).config, vocab_size=tokenizer.vocab_size))
    write_artifact(artifact, net, Label("gpt2", tokenizer.to_json()), tensorrt=True)
    words = [str(artifact), "--module", RTX, "--size", "steps=1"]
    assert main(words) == 2
    assert "made for onnxruntime on a CPU" in capsys.readouterr().err
    assert main([*words, "--model", TENSORRT_MODEL]) == 0, capsys.readouterr().err
    info = open_plan(artifact / "model.tensorrt.plan")
    assert (info.model, info.sizes) == (TENSORRT_MODEL, {"steps": 1})
    assert rebuild_command(artifact, info) == (
        f"`python -m export.build_engine {artifact} --model {TENSORRT_MODEL} --size steps=1 "
        f"--module {RTX}`"
    )


@with_rtx
def test_a_plan_that_fits_is_kept_and_any_other_is_built_again(tmp_path: Path) -> None:
    model, out = small_graph(), tmp_path / "model.plan"
    first = build_plan(model, out, SMALL)
    written = out.stat().st_mtime_ns
    assert build_plan(model, out, SMALL) == first
    assert out.stat().st_mtime_ns == written
    more = build_plan(model, out, PlanOptions((Profile(1, 1, 1), Profile(1, 2, 4)), module=RTX))
    assert more.key != first.key
    assert open_plan(out) == more
    out.write_bytes(b"damaged")
    again = build_plan(model, out, PlanOptions((Profile(1, 1, 1), Profile(1, 2, 4)), module=RTX))
    assert read_plan(out, again, again.onnx_sha256) == out.read_bytes() != b"damaged"


@with_rtx
def test_a_build_that_fails_leaves_the_old_plan(tmp_path: Path) -> None:
    out = tmp_path / "model.plan"
    info = build_plan(small_graph(), out, SMALL)
    with pytest.raises(ExportError, match=r"capability 9\.1, only for"):
        build_plan(small_graph(), out, PlanOptions(module=RTX, capability="9.1"))
    assert read_plan(out, open_plan(out), info.onnx_sha256)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.plan", "model.plan.json"]


@with_rtx
def test_timings_that_cannot_be_kept_do_not_cost_the_plan(tmp_path: Path) -> None:
    """As beside a mounted folder; here a folder of that name is in the way."""
    timing, plan = tmp_path / "timing", tmp_path / "model.plan"
    timing.mkdir()
    info = build_plan(small_graph(), plan, SMALL, timing)
    assert open_plan(plan) == info
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("model.plan", "model.plan.json", "timing")
    ]


@with_rtx
def test_the_command_writes_a_plan_beside_the_graph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_artifacts(tmp_path)
    artifact = tmp_path / "luminanet-cifar10" / "artifact"
    words = ["--module", RTX, "--profile", "1:8:32", "--profile", "1"]
    assert main([str(artifact), *words]) == 0
    assert "batches 1:8:32 1:1:1" in capsys.readouterr().out
    info = open_plan(artifact / "model.plan")
    assert info.command == f"--profile 1:8:32 --profile 1:1:1 --module {RTX}"
    assert (
        info.onnx_sha256
        == json.loads((artifact / "manifest.json").read_text())["files"]["model.onnx"]["sha256"]
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--profile", "3:2:1"], "1 <= min <= opt <= max"),
        (["--size", "steps"], "is not name=number"),
        (["--size", "steps=1"], "nothing free"),
        (["--module", "torch"], "is none of tensorrt, tensorrt_rtx"),
        (["--limit-s", "0"], "a time limit"),
        (["--model", "other.onnx"], r"lists no other\.onnx"),
    ],
)
def test_a_mistake_is_one_line_on_stderr(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_artifacts(tmp_path)
    assert main([str(tmp_path / "luminanet-cifar10" / "artifact"), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message.replace("\\", "") in error


def test_shapes_follow_the_batch_and_the_sizes_given() -> None:
    model = unroll_gpt2(random_gpt2(0)).SerializeToString()
    options = PlanOptions((Profile(1, 2, 4), Profile(8, 8, 8)), {"steps": 3})
    first, second = shapes_of(model, options)
    assert first["token_ids"] == [[1, 3], [2, 3], [4, 3]]
    assert first["past_lengths"] == [[1], [2], [4]]
    assert second["past_keys.1"] == [[8, 4, 16, 8]] * 3
    with pytest.raises(ExportError, match="leaves steps free"):
        shapes_of(model, PlanOptions())


def test_graphs_that_are_not_whole_are_refused() -> None:
    with pytest.raises(ExportError, match="not an ONNX file"):
        shapes_of(b"no graph", PlanOptions())
    model = onnx.load_model_from_string(small_graph())
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], "../../etc/passwd")
    with pytest.raises(ExportError, match="weights in other files"):
        shapes_of(model.SerializeToString(), PlanOptions())
    hidden = onnx.load_model_from_string(small_graph())
    tensor = numpy_helper.from_array(np.zeros(1, np.float32), "hidden")
    onnx.external_data_helper.set_external_data(tensor, "elsewhere")
    body = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "b", [], [])
    hidden.graph.node.append(helper.make_node("If", ["x"], ["z"], then_branch=body))
    with pytest.raises(ExportError, match="weights in other files"):
        shapes_of(hidden.SerializeToString(), PlanOptions())


@pytest.mark.parametrize("gpu", [None, Gpu("L4", "8.9")])
def test_tensorrt_itself_builds_for_the_gpu_of_this_machine_alone(
    gpu: Gpu | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library(tmp_path, "tensorrt", "__version__ = '11.0'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setattr(build_engine, "find_gpu", lambda: gpu)
    options = PlanOptions(module="tensorrt", capability="9.0")
    with pytest.raises(ExportError, match="builds for the GPU of this machine"):
        build_plan(small_graph(), tmp_path / "model.plan", options)
    monkeypatch.delitem(sys.modules, "tensorrt")


def test_a_missing_library_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("tensorrt", RTX):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"tensorrt or tensorrt_rtx .*luminanet\[gpu\]"):
        build_plan(small_graph(), tmp_path / "model.plan")


def test_options_that_make_no_sense_are_refused() -> None:
    for bad in ({"profiles": ()}, {"sizes": {"steps": 0}}, {"limit_s": 0}, {"module": "os"}):
        with pytest.raises(ConfigError):
            PlanOptions(**bad)


# ---------------------------------------------------------------- a builder that ends its process


def library(folder: Path, name: str, code: str) -> None:
    (folder / f"{name}.py").write_text(code)


def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> dict[str, Any]:
    """A job for a builder that does `code` as it starts."""
    library(tmp_path, "other_tensorrt", code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "model.onnx").write_bytes(small_graph())
    paths = {key: str(tmp_path / key) for key in ("plan", "timing")}
    model = str(tmp_path / "model.onnx")
    return {"module": "other_tensorrt", "model": model, "profiles": [], "capabilities": [], **paths}


def test_a_crash_of_the_builder_is_an_error_that_names_the_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cry = "import os, sys\nprint('no such kernel', file=sys.stderr, flush=True)\n"
    code = cry + "os.kill(os.getpid(), 11)"
    with pytest.raises(ExportError, match=r"crashed \(SIGSEGV\).*no such kernel") as caught:
        run(job(tmp_path, monkeypatch, code), 60, lambda _: None)
    assert "\n" not in str(caught.value)


def test_an_exit_of_the_builder_is_an_error_with_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExportError, match="exit status 7"):
        run(job(tmp_path, monkeypatch, "import os\nos._exit(7)"), 60, lambda _: None)


def test_a_builder_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_s = time.monotonic()
    with pytest.raises(ExportError, match=r"more than 0\.5 s .* --limit-s"):
        run(job(tmp_path, monkeypatch, "import time\ntime.sleep(60)"), 0.5, lambda _: None)
    assert time.monotonic() - begun_s < 30


def test_what_a_library_prints_does_no_harm_to_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = 'print(\'{}\\n[1]\\nhello\\n{"progress": "half"}\', flush=True)\nimport os\nos._exit(0)'
    told: list[str] = []
    run(job(tmp_path, monkeypatch, code), 60, told.append)
    assert told == ["half"]
