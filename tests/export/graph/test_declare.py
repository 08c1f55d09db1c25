"""A graph has the inputs and outputs that luminanet/interface.py tells, and tells them back."""

import onnx
import pytest

from export.decoding.decode import decode_caches, decode_windows
from export.gpt2.cached import unroll_gpt2
from export.gpt2.standard_ops import unroll_plain_gpt2
from export.graph.builder import Graph
from export.graph.declare import declared
from export.network.unroll import unroll
from luminanet import interface
from luminanet.errors import ExportError
from luminanet.interface import CacheGraphs, Interface, Tensor, WindowGraphs
from tests.nets import random_gpt2, random_net


def found(model: onnx.ModelProto) -> Interface:
    return Interface(tuple(map(tensor, model.graph.input)), tuple(map(tensor, model.graph.output)))


def tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).name
    return Tensor(value.name, dtype, tuple(d.dim_value or None for d in kind.shape.dim))


@pytest.mark.parametrize("text", [False, True])
def test_a_network_takes_and_gives_what_the_interface_tells(text: bool) -> None:
    net = random_net(3, text)
    assert found(unroll(net)) == interface.of(net).logits()
    assert declared(unroll(net)) == interface.of(net)


def test_a_gpt2_takes_and_gives_what_the_interface_tells() -> None:
    net = random_gpt2(3)
    for model in (unroll_gpt2(net), unroll_plain_gpt2(net)):
        assert found(model) == interface.of(net).logits()
        assert declared(model) == interface.of(net)


def test_a_graph_that_decodes_takes_and_gives_what_the_interface_tells() -> None:
    windows, caches = unroll(random_net(3, text=True)), unroll_gpt2(random_gpt2(3))
    text, gpt2 = declared(windows), declared(caches)
    assert isinstance(text, WindowGraphs)
    assert isinstance(gpt2, CacheGraphs)
    assert found(decode_windows(windows)) == text.decode()
    assert found(decode_caches(caches, 3)) == gpt2.decode(3)


def test_a_free_size_is_named_after_what_it_counts() -> None:
    model = decode_windows(unroll(random_net(3, text=True)))
    (ids,) = (value for value in model.graph.output if value.name == "sampled_ids")
    assert [dim.dim_param for dim in ids.type.tensor_type.shape.dim] == ["batch", "steps"]


@pytest.mark.parametrize("answers", ["logits", "scores"])
def test_a_graph_of_nobody_is_refused(answers: str) -> None:
    graph = Graph("other")
    graph.input("numbers", "float32", ["batch", 3])
    graph.node("Identity", ["numbers"], answers)
    graph.output(answers, "float32", ["batch", 3])
    with pytest.raises(ExportError, match="none of a network"):
        declared(graph.build())
