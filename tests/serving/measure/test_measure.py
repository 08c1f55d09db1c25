"""What processes take is read from Linux, a load is the same for every model, and a file comes out
whole. Servers are real, with tiny networks."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from luminanet.artifact.manifest import Family, Task
from luminanet.errors import ConfigError, DataError
from serving.measure import __main__ as command
from serving.measure import load, process
from serving.measure.measurement import sessions_bytes, slope, weights_bytes
from serving.measure.servers import served
from serving.metrics.memory import read
from tests.serving.helpers import wait_until

MIB = 2**20
ROOT = Path(__file__).parents[3]

linux = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="memory is measured where Linux tells it"
)


@linux
def test_uss_is_what_this_process_took_and_peak_rss_what_it_once_had() -> None:
    before = process.uss()
    taken = np.ones(64 * MIB, np.uint8)
    during = process.uss()
    assert during - before > 60 * MIB
    del taken
    assert during - process.uss() > 60 * MIB
    assert process.peak_rss() >= during - before
    assert process.uss(os.getpid()) == pytest.approx(process.uss(), rel=0.1)


@linux
def test_samples_see_a_peak_that_is_over() -> None:
    with process.sampled(os.getpid()) as samples:
        wait_until(lambda: len(samples.all) > 0)
        first = samples.peak
        taken = np.ones(64 * MIB, np.uint8)
        count = len(samples.all)
        wait_until(lambda: len(samples.all) > count + 1)
        del taken
    assert samples.peak - first > 60 * MIB
    assert samples.since(samples.all[-1][0]) == [samples.all[-1][1]]


@linux
def test_a_process_that_has_ended_is_told_so() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError):
        process.uss(pid)
    with process.sampled(pid) as samples:
        pass
    assert samples.all == []


def test_where_linux_does_not_tell_it_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(process, "Path", lambda _: tmp_path)
    with pytest.raises(ConfigError, match="memory is measured where Linux tells it"):
        process.uss()


class Gpus:
    """Stands in for NVML: two devices, on which this process and another one compute."""

    NVMLError = type("NVMLError", (Exception,), {})

    def __init__(self, there: bool = True) -> None:
        self.there = there
        self.open = 0

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.there:
            raise self.NVMLError
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetComputeRunningProcesses(self, index: int) -> list[Any]:  # noqa: N802
        return [SimpleNamespace(pid=7, usedGpuMemory=100 + index), SimpleNamespace(pid=8)]


@pytest.mark.parametrize(
    ("there", "pid", "size"), [(True, 7, 201), (True, 9, None), (False, 7, None)]
)
def test_memory_of_gpus_is_added_up_where_there_are_some(
    monkeypatch: pytest.MonkeyPatch, there: bool, pid: int, size: int | None
) -> None:
    gpus = Gpus(there)
    monkeypatch.setitem(sys.modules, "pynvml", gpus)
    assert process.gpu_bytes(pid) == size
    assert gpus.open == 0


def test_without_nvml_nothing_is_said_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert process.gpu_bytes(os.getpid()) is None


# ---------------------------------------------------------------------- the load


def test_every_model_of_a_task_is_asked_the_same() -> None:
    ours, theirs = (load.requests(Task.GENERATION, family, 4, seed=3) for family in Family)
    assert [len(ours), *{len(asked) for asked in ours}] == [4, load.REQUESTS // 4]
    for mine, other in zip(ours, theirs, strict=True):
        for (path, body), (_, same) in zip(mine, other, strict=True):
            assert path == "/generate"
            assert {**body, "model": None} == {**same, "model": None}
    assert load.requests(Task.GENERATION, Family.GPT2, 4, seed=4) != theirs
    assert len(load.requests(Task.CLASSIFICATION, Family.LUMINANET, 100, seed=0)[0]) == 1


def test_what_a_sequence_adds_is_a_slope() -> None:
    assert slope({1: 1000, 32: 5000, 257: 1000 + 256 * 64}) == 64


def graph(weights: np.ndarray[Any, Any], body: bool) -> bytes:
    """A graph that holds weights as an initializer, or in a constant within a branch."""
    tensor = numpy_helper.from_array(weights, "w")
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    if not body:
        node = helper.make_node("Identity", ["w"], ["y"])
        made = helper.make_graph([node], "g", [], [out], [tensor])
    else:
        constant = helper.make_node("Constant", [], ["y"], value=tensor)
        branch = helper.make_graph([constant], "b", [], [out])
        asked = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
        node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
        made = helper.make_graph([node], "g", [asked], [out])
    return bytes(helper.make_model(made).SerializeToString())


def test_weights_are_counted_wherever_a_graph_holds_them() -> None:
    weights = np.zeros((5, 7), np.float32)
    flat, deep = graph(weights, body=False), graph(weights, body=True)
    assert weights_bytes([flat]) == weights.nbytes
    assert weights_bytes([deep]) == 2 * weights.nbytes
    assert weights_bytes([flat, deep]) == 3 * weights.nbytes


# ---------------------------------------------------------------------- the command


@linux
@pytest.mark.usefixtures("clean")
def test_sessions_take_at_least_most_of_their_weights() -> None:
    directory = ROOT / "pretrained" / "luminanet-tinystories" / "artifact"
    data = (directory / "decode.onnx").read_bytes()
    assert sessions_bytes(directory, ["decode.onnx"], 1) > weights_bytes([data]) // 2
    with pytest.raises(DataError, match="sessions could not be created"):
        sessions_bytes(directory, ["other.onnx"], 1)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("LUMINANET_MAX_BATCH", "0")  # of another server: not of those measured
    monkeypatch.setattr(load, "REQUESTS", 2)
    monkeypatch.setattr(load, "TOKENS", 8)
    monkeypatch.setattr(load, "PROMPT_WORDS", (1, 2))


@linux
@pytest.mark.usefixtures("clean")
def test_the_command_measures_each_model_apart_and_writes_what_a_server_reads(
    artifacts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "memory.json"
    graphs = {"text-generation": "decode.4.onnx", "image-classification": "model.onnx"}
    for task, sequences in ("text-generation", "2,1"), ("image-classification", "1"):
        directory = next(
            path.parent
            for path in artifacts.rglob(graphs[task])
            if f'"{task}"' in (path.parent / "manifest.json").read_text()
        )
        words = ["--runs=1", f"--sequences={sequences}", "--threads=1", f"--out={out}"]
        assert command.main([str(directory), *words]) == 0
        assert [path.name for path in tmp_path.iterdir()] == [out.name], "nothing else is left"
        (model,) = read(out).models
        assert model.task == task
        assert [*model.load] == sorted(map(int, sequences.split(",")))
        for kinds in model.load.values():
            assert kinds["peak_uss"][0] >= kinds["uss"][0] > 20 * MIB
            assert kinds["peak_rss"][0] > 20 * MIB
        assert model.weights_bytes > 0
        assert len(model.state_bytes) == len(sequences) // 2


@pytest.mark.usefixtures("clean")
def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    refused = pytest.raises(DataError, match=r"did not start: there is no artifact under")
    with served(["--artifacts", str(tmp_path)]) as server, refused:
        assert server.url


def test_what_cannot_be_measured_or_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    with pytest.raises(ConfigError, match="name another --out"):
        command.write(_nothing(), tmp_path / "missing" / "memory.json")
    with pytest.raises(SystemExit):
        command.main(["--runs", "0"])


def _nothing() -> Any:
    return SimpleNamespace(to_json=lambda: json.dumps({}))
