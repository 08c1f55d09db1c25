import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.packing import LoopNetwork, compare
from tests.nets import random_net
from training.model.network import Network


@given(st.integers(0, 100_000))
def test_the_loop_and_the_groups_give_the_same_numbers(seed: int) -> None:
    net = random_net(seed, text=False)
    loop, packed = LoopNetwork(net), Network(net)
    images = torch.rand(4, 3, 8, 6, generator=torch.Generator().manual_seed(seed))
    ours, theirs = packed(images), loop(images)
    assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-4)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    bias = packed.get_parameter("bias_O").grad
    assert bias is not None
    assert loop.bias.grad is not None
    assert torch.allclose(bias, loop.bias.grad, atol=1e-3, rtol=1e-3)


def test_all_variants_are_timed() -> None:
    found = compare(8, repeats=1)
    assert set(found) == {"loop, fp32", "packed, fp32", "loop, bf16", "packed, bf16"}
    assert min(found.values()) > 0
