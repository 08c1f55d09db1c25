from hypothesis import given
from hypothesis import strategies as st

from export.graph import count
from export.network.unroll import unroll
from luminanet.cost.macs import macs
from tests.nets import random_net, tiny_image_topology


@given(st.integers(0, 100_000), st.booleans())
def test_the_cost_is_what_the_exported_graph_multiplies(seed: int, text: bool) -> None:
    net = random_net(seed, text)
    assert macs(net.topology) == count.macs(unroll(net))


def test_the_cost_by_hand() -> None:
    # Four quarters of 768 pixels and 8 neurons on level 0, one deaf-born cluster on level 1 that
    # hears them and itself, and answers the first; channel 4, 10 classes.
    see_and_read = 4 * 8 * (768 + 10) + 8 * 10
    # pass 1: the deep cluster hears four; pass 2: cluster 0 hears it, it hears five.
    hear = 3 * 8 * 4
    say = (4 + 1 + 1) * 8 * 4
    mix = (1 * 4 + 1 * 1 + 1 * 5) * 4
    assert macs(tiny_image_topology()) == see_and_read + hear + say + mix
