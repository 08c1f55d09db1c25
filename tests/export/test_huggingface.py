import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, pre_tokenizers

from export.baseline import unroll_gpt2
from export.huggingface import load_gpt2
from export.pack import Label, pack
from export.verify import verify
from luminanet.errors import CheckpointError, MissingExtraError
from luminanet.gpt2 import Gpt2Net
from luminanet.tokenizer import END_OF_TEXT, Tokenizer
from tests.nets import frozen, random_gpt2, tiny_tokenizer

save_file = pytest.importorskip("safetensors.numpy", reason="needs luminanet[export]").save_file
TOKENIZER = tiny_tokenizer()
NET = random_gpt2(3, replace(random_gpt2(0).config, vocab_size=TOKENIZER.vocab_size))
Tensors = Mapping[str, NDArray[Any]]


def prefixed(tensors: Tensors = NET.tensors) -> dict[str, NDArray[Any]]:
    return {f"transformer.{name}": np.array(array) for name, array in tensors.items()}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """NET as `save_pretrained` writes it."""
    folder, config = tmp_path / "small-gpt2", NET.config
    folder.mkdir()
    described = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-05,
        "n_inner": None,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
        "eos_token_id": TOKENIZER.end_id,
        "vocab_size": config.vocab_size,
        "n_positions": config.context,
        "n_embd": config.width,
        "n_head": config.heads,
        "n_layer": config.layers,
    }
    (folder / "config.json").write_text(json.dumps(described))
    (folder / "tokenizer.json").write_text(TOKENIZER.to_json())
    save_file(prefixed(), folder / "model.safetensors")
    return folder


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def assert_same(found: Gpt2Net, expected: Tensors) -> None:
    assert found.config == NET.config
    assert set(found.tensors) == set(expected)
    for name, array in expected.items():
        assert np.array_equal(found.tensors[name], array.astype(np.float32)), name


def test_a_directory_becomes_the_network_it_was_made_from(directory: Path) -> None:
    net, tokenizer, name = load_gpt2(directory)
    assert_same(net, NET.tensors)
    assert name == "small-gpt2"
    assert Tokenizer.from_json(tokenizer).encode("a big dog") == TOKENIZER.encode("a big dog")


def test_it_freezes_like_a_checkpoint(directory: Path) -> None:
    net, tokenizer, name = load_gpt2(directory)
    assert verify(unroll_gpt2(net), net).difference < 1e-5
    packed = pack(net, frozen(net), Label(name, tokenizer))
    assert packed.manifest.vocab_size == TOKENIZER.vocab_size


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_halved_weights_are_read_exactly(directory: Path, dtype: Any) -> None:
    halved = {name: array.astype(dtype) for name, array in NET.tensors.items()}
    stored = {name: torch.from_numpy(array.astype(np.float32)) for name, array in halved.items()}
    kind = torch.float16 if dtype is np.float16 else torch.bfloat16
    from safetensors.torch import save_file as save_torch

    save_torch({n: t.to(kind) for n, t in stored.items()}, directory / "model.safetensors")
    assert_same(load_gpt2(directory).net, halved)


def test_old_files_carry_masks_and_the_tied_output_layer(directory: Path) -> None:
    mask = np.tri(NET.config.context, dtype=np.bool_)[None, None]
    tensors = prefixed() | {
        "transformer.h.0.attn.bias": mask,
        "transformer.h.0.attn.masked_bias": np.array(-1e4, np.float32),
        "lm_head.weight": np.array(NET.tensors["wte.weight"]),
    }
    save_file(tensors, directory / "model.safetensors")
    assert_same(load_gpt2(directory).net, NET.tensors)


def test_a_bin_file_is_read(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    stored = {
        name: torch.from_numpy(array).to(torch.bfloat16) for name, array in prefixed().items()
    }
    torch.save(stored, directory / "pytorch_model.bin")
    halved = {name: array.astype(ml_dtypes.bfloat16) for name, array in NET.tensors.items()}
    assert_same(load_gpt2(directory).net, halved)


def test_a_bin_file_that_would_run_code_is_refused(directory: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    (directory / "model.safetensors").unlink()
    torch.save({"wte.weight": Evil()}, directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_gpt2(directory)
    assert not (tmp_path / "ran").exists()


def test_an_output_layer_of_its_own_is_refused(directory: Path) -> None:
    other = np.array(NET.tensors["wte.weight"]) * 2
    save_file(prefixed() | {"lm_head.weight": other}, directory / "model.safetensors")
    with pytest.raises(CheckpointError, match="only tied ones"):
        load_gpt2(directory)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model_type": "llama"}, "model_type 'llama', and only 'gpt2'"),
        ({"activation_function": "relu"}, "activation_function 'relu'"),
        ({"scale_attn_weights": False}, "scale_attn_weights"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ({"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn"),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"n_inner": 64}, "n_inner is 64"),
        ({"n_layer": 3}, r"h\.2\."),
        ({"n_positions": 8}, r"wpe\.weight"),
        ({"n_embd": 64}, "expected float32"),
        ({"n_head": 5}, "multiple of heads"),
        ({"n_head": 8}, "heads are 4 wide"),
        ({"n_layer": "2"}, "whole numbers"),
        ({"n_head": 0}, "at least 1"),
        ({"eos_token_id": 7}, "ends texts with token 7"),
        ({"vocab_size": 290}, r"wte\.weight"),
    ],
)
def test_another_architecture_is_refused(
    directory: Path, values: dict[str, Any], message: str
) -> None:
    change(directory / "config.json", **values)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_gpt2(directory)
    assert str(directory) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_config_that_lacks_a_size_is_refused(directory: Path) -> None:
    path = directory / "config.json"
    raw = json.loads(path.read_text())
    del raw["n_embd"]
    path.write_text(json.dumps(raw))
    with pytest.raises(CheckpointError, match="'n_embd'"):
        load_gpt2(directory)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("data", [None, b"", b"[]", b"\xff" * 64])
def test_missing_and_damaged_files_are_named(
    directory: Path, name: str, data: bytes | None
) -> None:
    (directory / name).unlink()
    if data is not None:
        (directory / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        load_gpt2(directory)


def test_truncated_weights_are_refused(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r"safetensors is damaged"):
        load_gpt2(directory)


def test_weights_in_another_layout_are_refused(directory: Path) -> None:
    tensors = prefixed()
    name = "transformer.h.0.mlp.c_fc.weight"
    tensors[name] = np.ascontiguousarray(tensors[name].T)
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"c_fc\.weight is float32\[128, 32\], expected"):
        load_gpt2(directory)


def test_weights_of_another_type_are_refused(directory: Path) -> None:
    tensors = prefixed() | {"transformer.ln_f.bias": np.zeros(32, np.int8)}
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"ln_f\.bias .* is stored as I8"):
        load_gpt2(directory)


def test_tensors_given_twice_are_refused(directory: Path) -> None:
    twice = prefixed() | {"ln_f.bias": np.zeros(32, np.float32)}
    save_file(twice, directory / "model.safetensors")
    with pytest.raises(CheckpointError, match="twice"):
        load_gpt2(directory)


def test_truncation_and_padding_of_a_tokenizer_do_not_reach_the_network(directory: Path) -> None:
    inner = Inner.from_str(TOKENIZER.to_json())
    inner.enable_truncation(2)
    inner.enable_padding(length=9)
    (directory / "tokenizer.json").write_text(inner.to_str())
    loaded = Tokenizer.from_json(load_gpt2(directory).tokenizer)
    assert loaded.encode("a big dog") == TOKENIZER.encode("a big dog")


def test_a_tokenizer_that_loses_text_is_refused(directory: Path) -> None:
    inner = Inner(models.BPE({END_OF_TEXT: 0, "a": 1, "b": 2}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    (directory / "tokenizer.json").write_text(inner.to_str())
    small = random_gpt2(0, replace(NET.config, vocab_size=3))
    save_file(prefixed(small.tensors), directory / "model.safetensors")
    change(directory / "config.json", vocab_size=3)
    with pytest.raises(CheckpointError, match="does not give back every text"):
        load_gpt2(directory)


def test_a_tokenizer_of_another_size_is_refused(directory: Path) -> None:
    wider = random_gpt2(0, replace(NET.config, vocab_size=NET.config.vocab_size + 47))
    save_file(prefixed(wider.tensors), directory / "model.safetensors")
    change(directory / "config.json", vocab_size=wider.config.vocab_size)
    with pytest.raises(CheckpointError, match="resize_token_embeddings"):
        load_gpt2(directory)


def test_a_missing_safetensors_names_its_extra(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingExtraError, match=r"luminanet\[export\]"):
        load_gpt2(directory)
