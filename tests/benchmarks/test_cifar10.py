import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import cifar10, runs
from benchmarks.cifar10 import main, parser
from benchmarks.margins import Result, markdown, summarise
from luminanet.errors import ConfigError
from tests.datasets import write_images
from training.data.batches import Batch, ImageSource
from training.presets import IMAGE_PRESETS
from training.run.run import Run

RUN = Result(
    network="lenet5",
    recipe="mixup",
    seed=0,
    parameters=62_006,
    macs=651_720,
    top1=0.70,
    top5=0.97,
    loss=0.9,
    epochs=10.0,
    training_seconds=60.0,
    converged=True,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    write_images(folder)
    return folder


def compare(data: Path, root: Path, *more: str) -> int:
    options = ["--data", str(data), "--out", str(root / "runs"), "--report", str(root)]
    return main([*options, "--threads", "1", "--batch", "16", *more])


def cells(root: Path) -> dict[str, list[str]]:
    lines = (root / "cifar10.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    return {row[0]: row for row in rows[2:]}


def test_the_table_has_every_network_and_is_not_measured_twice(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["--networks", "cifar10,lenet5,alexnet", "--seeds", "0,1", "--steps", "3"]
    assert compare(data, tmp_path, *wanted) == 0
    rows = cells(tmp_path)
    assert list(rows) == ["LuminaNet (cifar10)", "lenet5", "alexnet"]
    assert rows["lenet5"][1:4] == ["mixup", "0.06 M", "0.65 M"]
    assert rows["lenet5"][6] == rows["alexnet"][7] == "+0.00"
    assert rows["alexnet"][8:10] == ["2", "0.4"]  # seeds; 3 batches of 16 from 115 images
    assert " ± " in rows["LuminaNet (cifar10)"][4]
    body = json.loads((tmp_path / "cifar10.json").read_text())
    assert [run["seed"] for run in body["runs"]] == [0, 0, 0, 1, 1, 1]
    assert body["networks"][1]["over_lenet5"] == 0
    command = "`python -m benchmarks.cifar10 --batch 16 --networks cifar10,lenet5,alexnet"
    assert body["source"].startswith(command)
    assert str(tmp_path) not in body["source"]

    written = (tmp_path / "cifar10.md").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(Run, "train", lambda _: pytest.fail("trained again"))
        patch.setattr(cifar10, "judge", lambda *_: pytest.fail("tested again"))
        assert compare(data, tmp_path, *wanted) == 0
    assert (tmp_path / "cifar10.md").read_text() == written
    assert compare(data, tmp_path, *wanted, "--steps", "4") == 2
    assert "choose another --out" in capsys.readouterr().err


def test_a_result_of_a_version_with_fewer_options_is_still_known(tmp_path: Path) -> None:
    config, path = IMAGE_PRESETS["cifar10"], tmp_path / "result.json"
    runs.store(path, config, {"top1": 0.7})
    body = json.loads(path.read_text())
    del body["config"]["final_rate"]
    path.write_text(json.dumps(body))
    assert runs.stored(path, config) == {"top1": 0.7}
    with pytest.raises(ConfigError, match="other settings"):
        runs.stored(path, replace(config, final_rate=0.1))


def test_an_interrupted_comparison_keeps_what_is_done_and_resumes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["--networks", "lenet5,alexnet", "--steps", "4"]
    plain = ImageSource.batch

    def interrupting(self: ImageSource, step: int) -> Batch:
        if self.config.model.name == "alexnet" and step == 2:
            signal.raise_signal(signal.SIGTERM)
        return plain(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(ImageSource, "batch", interrupting)
        assert compare(data, tmp_path, *wanted) == 128 + signal.SIGTERM
    assert list(cells(tmp_path)) == ["lenet5"]
    assert compare(data, tmp_path, *wanted) == 0
    assert list(cells(tmp_path)) == ["lenet5", "alexnet"]


def test_equal_time_stands_for_steps(data: Path, tmp_path: Path) -> None:
    assert compare(data, tmp_path, "--networks", "lenet5", "--seconds", "0.5") == 0
    (run,) = json.loads((tmp_path / "cifar10.json").read_text())["runs"]
    assert run["training_seconds"] >= 0.5
    assert run["epochs"] > 0
    assert cells(tmp_path)["lenet5"][-1] == "not converged (1 of 1)"
    recorded = json.loads((tmp_path / "runs" / "lenet5-mixup-seed0" / "result.json").read_text())
    assert recorded["config"]["seconds"] == 0.5


@pytest.mark.parametrize(
    ("images", "still_improving", "expected"),
    [(10_240_000, 0.0, True), (12_000_000, 1.0, False), (100_000, 0.0, False)],
)
def test_a_run_has_converged_when_it_had_its_images_and_came_to_rest(
    images: int, still_improving: float, expected: bool
) -> None:
    config = IMAGE_PRESETS["lenet5"].having(seconds=60.0)
    figures = {"examples": images, "still_improving": still_improving}
    assert cifar10.converged(config, figures) is expected
    assert cifar10.converged(replace(config, seconds=0.0), {"examples": images}) is (images > 1e6)


def test_margins_and_spread_are_over_seeds() -> None:
    ours = [replace(RUN, network="cifar10", seed=seed, top1=0.76 + seed / 50) for seed in (0, 1)]
    stopped = replace(RUN, network="resnet18", converged=False)
    summaries = summarise([*ours, RUN, stopped])
    assert summaries[0].top1 == pytest.approx(0.77)
    assert summaries[0].top1_deviation == pytest.approx(0.02 / 2**0.5)
    assert summaries[0].over_lenet5 == pytest.approx(0.07)
    assert summaries[0].over_alexnet is None
    shown = markdown(summaries)
    assert "| 77.00 ± 1.41 % | 97.00 ± 0.00 % | +7.00 |  | 2 |" in shown
    assert "not converged (1 of 1)" in shown.splitlines()[-1]


def test_margins_are_over_the_same_recipe(data: Path, tmp_path: Path) -> None:
    wanted = ["--networks", "cifar10,lenet5", "--recipes", "plain,bare", "--steps", "2"]
    assert compare(data, tmp_path, *wanted) == 0
    body = json.loads((tmp_path / "cifar10.json").read_text())
    found = {(n["network"], n["recipe"]): n for n in body["networks"]}
    assert list(found) == [(n, r) for r in ("plain", "bare") for n in ("cifar10", "lenet5")]
    for recipe in ("plain", "bare"):
        ours, lenet5 = found["cifar10", recipe], found["lenet5", recipe]
        assert ours["over_lenet5"] == pytest.approx(ours["top1"] - lenet5["top1"])
    raw = (tmp_path / "runs" / "cifar10-bare-seed0" / "result.json").read_text()
    config = json.loads(raw)["config"]
    assert (config["mixup"], config["smoothing"], config["augment"]) == (0, 0, False)


def test_every_network_of_the_paper_is_compared_by_default() -> None:
    configs = cifar10.configure(parser().parse_args([]))
    assert [config.preset for config in configs] == list(cifar10.NETWORKS)
    assert len({(c.steps, c.batch, c.weight_decay, c.mixup, c.smoothing) for c in configs}) == 1


def test_the_command_of_a_run_trains_it_alone() -> None:
    (config,) = cifar10.configure(
        parser().parse_args(["--networks", "lenet5", "--seeds", "2", "--seconds", "90"])
    )
    expected = "--preset lenet5 --seed 2 --steps 1000000000 --seconds 90.0"
    assert cifar10.command(config) == f"python -m training.train {expected}"
    (bare,) = cifar10.configure(parser().parse_args(["--networks", "lenet5", "--recipes", "bare"]))
    expected = "--preset lenet5 --mixup 0.0 --smoothing 0.0 --no-augment"
    assert cifar10.command(bare) == f"python -m training.train {expected}"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--networks", "lenet5,vgg"], "'vgg' is none of"),
        (["--networks", "gpt2"], "'gpt2' is none of"),
        (["--recipes", "salt"], "'salt' is none of"),
        (["--seeds", "one"], "not a list"),
        (["--seconds", "0"], "more than 0"),
        (["--data", "nowhere"], "check --data"),
    ],
)
def test_bad_options_are_clear_errors(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], says: str
) -> None:
    assert compare(data, tmp_path, *more) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert says in error
