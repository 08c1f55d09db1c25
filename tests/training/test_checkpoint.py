from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from luminanet.errors import CheckpointError
from luminanet.frozen import FrozenNet
from luminanet.gpt2 import Gpt2Net
from luminanet.reference import forward
from tests.nets import random_gpt2, random_net, tiny_tokenizer
from training.checkpoint import Checkpoint, load, save


@pytest.mark.parametrize("seed", range(5))
def test_a_network_survives_its_checkpoint(tmp_path: Path, seed: int) -> None:
    net = random_net(seed, text=True)
    words = tiny_tokenizer().to_json()
    save(tmp_path / "ckpt.pt", Checkpoint("n", net, words, (), {"loss": 1.5}, "python"))
    again = load(tmp_path / "ckpt.pt")
    assert isinstance(again.net, FrozenNet)
    tokens = np.random.default_rng(0).integers(0, 40, (3, 12))
    assert np.allclose(forward(again.net, tokens), forward(net, tokens), atol=1e-6)
    assert (again.name, again.tokenizer, again.figures) == ("n", words, {"loss": 1.5})


def test_a_baseline_survives_its_checkpoint(tmp_path: Path) -> None:
    net = random_gpt2(0)
    save(tmp_path / "ckpt.pt", Checkpoint("g", net))
    again = load(tmp_path / "ckpt.pt").net
    assert isinstance(again, Gpt2Net)
    assert again.config == net.config
    assert all(np.array_equal(again.tensors[n], net.tensors[n]) for n in net.tensors)


def test_nothing_in_a_checkpoint_needs_pickle(tmp_path: Path) -> None:
    save(tmp_path / "ckpt.pt", Checkpoint("n", random_net(0, text=False), labels=("a",)))
    assert torch.load(tmp_path / "ckpt.pt", weights_only=True)["format"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["ckpt.pt"]


def test_a_missing_or_damaged_checkpoint_is_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    with pytest.raises(CheckpointError, match=r"training\.train"):
        load(path)
    save(path, Checkpoint("n", random_net(0, text=False)))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match="damaged"):
        load(path)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "says no format"),
        ({"format": "1"}, "says no format"),
        ({"format": True}, "says no format"),
        ({"wte.weight": torch.zeros(2)}, "says no format"),
        ({"trainer": {}, "net": None}, "the state of a run.*: name a ckpt.pt"),
        ([1], "it holds a list"),
        (torch.zeros(2), "it holds a Tensor"),
        ({"format": 2, "family": "luminanet"}, "format 2; .* a newer version: update LuminaNet"),
        ({"format": 0, "family": "luminanet"}, r"format 0; .*: make it again with `python -m tr"),
        ({"format": 1, "family": "mamba"}, "family 'mamba', .* reads luminanet, gpt2, baseline"),
        ({"format": 1}, "family None"),
        ({"format": 1, "family": "gpt2"}, "is damaged: KeyError: 'config'"),
    ],
)
def test_a_file_of_another_format_is_a_clear_error(tmp_path: Path, body: object, says: str) -> None:
    torch.save(body, tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError, match=says):
        load(tmp_path / "ckpt.pt")


def test_weights_that_do_not_fit_the_topology_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    save(path, Checkpoint("n", random_net(0, text=False)))
    raw = torch.load(path, weights_only=True)
    raw["net"]["head"]["bias_O"] = torch.zeros(3)
    torch.save(raw, path)
    with pytest.raises(CheckpointError, match="bias_O"):
        load(path)


def changed(path: Path, change: Callable[[dict[str, Any]], None], text: bool = True) -> Path:
    """A checkpoint of a GPT-2, or of a LuminaNet for images, with something else in it."""
    words = tiny_tokenizer()
    net = random_gpt2(0) if text else random_net(0, text=False)
    save(path, Checkpoint("n", net, words.to_json() if text else None, (), {"loss": 1.5}, "python"))
    raw = torch.load(path, weights_only=True)
    change(raw)
    torch.save(raw, path)
    return path


KINDS = [torch.float16, torch.bfloat16, torch.float64]


@pytest.mark.parametrize("kind", KINDS)
def test_a_gpt2_in_another_floating_type_is_read_as_float32(
    tmp_path: Path, kind: torch.dtype
) -> None:
    def convert(raw: dict[str, Any]) -> None:
        raw["tensors"] = {name: tensor.to(kind) for name, tensor in raw["tensors"].items()}

    path = changed(tmp_path / "ckpt.pt", convert)
    net, stored = load(path).net, torch.load(path, weights_only=True)["tensors"]
    assert isinstance(net, Gpt2Net)
    for name, tensor in stored.items():
        assert tensor.dtype == kind
        assert net.tensors[name].dtype == np.float32
        assert np.array_equal(net.tensors[name], tensor.float().numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_a_luminanet_in_another_floating_type_is_read_as_float32(
    tmp_path: Path, kind: torch.dtype
) -> None:
    def convert(raw: dict[str, Any]) -> None:
        net = raw["net"]
        for part in (net["head"], *net["clusters"].values()):
            part |= {name: tensor.to(kind) for name, tensor in part.items()}
        net["gates"] = net["gates"].to(kind)

    net = load(changed(tmp_path / "ckpt.pt", convert, text=False)).net
    assert isinstance(net, FrozenNet)
    expected = random_net(0, text=False)
    tolerance = {torch.float16: 1e-3, torch.bfloat16: 1e-2, torch.float64: 0}[kind]
    for key, weights in expected.clusters.items():
        assert np.allclose(net.clusters[key].see_IH, weights.see_IH, tolerance, tolerance)
    assert np.allclose([*net.gates.values()], [*expected.gates.values()], 1e-2, 1e-2)


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (lambda t: t.double() + 1e39, "wte.weight has numbers that are too large for float32"),
        (lambda t: t.to(torch.int8), "wte.weight is stored as torch.int8: save it as float32"),
        (lambda t: t.to(torch.complex64), "wte.weight is stored as torch.complex64"),
        (lambda t: t.tolist(), "wte.weight is stored as list"),
        (lambda t: t[:-1], r"wte.weight is float32\[\d+, \d+\], expected float32"),
        (lambda t: t[None], "wte.weight is float32"),
        (lambda t: t.to_sparse(), "is damaged"),
        (lambda t: t * float("inf"), "wte.weight holds infinities: training diverged"),
    ],
)
def test_a_tensor_that_cannot_be_a_weight_is_named(
    tmp_path: Path, tensor: Callable[[Any], Any], says: str
) -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["tensors"]["wte.weight"] = tensor(raw["tensors"]["wte.weight"])

    with pytest.raises(CheckpointError, match=says):
        load(changed(tmp_path / "ckpt.pt", change))


def test_a_missing_or_an_extra_tensor_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"differ in \['ln_f.bias'\]"):
        load(changed(tmp_path / "a.pt", lambda raw: raw["tensors"].pop("ln_f.bias")))
    with pytest.raises(CheckpointError, match=r"differ in \['lm_head.weight'\]"):
        load(
            changed(
                tmp_path / "b.pt",
                lambda raw: raw["tensors"].update({"lm_head.weight": torch.ones(1)}),
            )
        )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("where", "says"),
    [
        (lambda net: net["head"]["bias_O"], "bias_O of the head"),
        (lambda net: net["clusters"][min(net["clusters"])]["hear_DH"], "hear_DH of cluster 0"),
        (lambda net: net["gates"], "the gate of .* to .*"),
    ],
)
def test_weights_of_a_diverged_run_are_refused(
    tmp_path: Path, value: float, where: Callable[[Any], Any], says: str
) -> None:
    def change(raw: dict[str, Any]) -> None:
        where(raw["net"]).view(-1)[0] = value

    path = changed(tmp_path / "ckpt.pt", change, text=False)
    with pytest.raises(CheckpointError, match=rf"{says} holds (NaN|infinities): training diverged"):
        load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_that_is_no_number_is_named(tmp_path: Path, value: float) -> None:
    path = changed(tmp_path / "ckpt.pt", lambda raw: raw["figures"].update(held_out_loss=value))
    with pytest.raises(CheckpointError, match=r"the figure held_out_loss is .*: training diverged"):
        load(path)


SAID: dict[str, list[object]] = {
    "figures": [None, [1], {"loss": "low"}, {"loss": True}, {3: 1.0}],
    "labels": [None, "cats", [1], ["a\x1b[1mb"]],
    "name": [None, 7, "two\nlines"],
    "command": [None, 7],
    "tokenizer": ["", "not JSON", "{}", 7, "[" * 100_000],
    "config": [None, [], {"width": 1.0}, {"vocab_size": 10**30}, {"layers": -1}, {"more": 1}],
    "tensors": [None, [], {"a": None}, 7],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in SAID.items() for v in vs])
def test_whatever_a_checkpoint_says_otherwise_is_one_line(
    tmp_path: Path, name: str, value: object
) -> None:
    path = changed(tmp_path / "ckpt.pt", lambda raw: raw.update({name: value}))
    with pytest.raises(CheckpointError, match="is damaged: ") as caught:
        load(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("gates", [torch.ones(1), torch.ones(400), torch.ones(3, 3), None, 1.0])
def test_gates_that_do_not_fit_the_connections_are_refused(tmp_path: Path, gates: object) -> None:
    path = changed(tmp_path / "ckpt.pt", lambda raw: raw["net"].update(gates=gates), text=False)
    with pytest.raises(CheckpointError, match="is damaged"):
        load(path)
