from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from luminanet.cost.latency import latency_us
from luminanet.cost.macs import macs
from luminanet.errors import ConfigError
from luminanet.fields import Interval
from luminanet.frozen import FrozenNet
from luminanet.topology import Connection, Kind
from tests.nets import random_weights, tiny_image_topology, tiny_text_topology
from training.config import EvolutionConfig
from training.evolution.budget import added, affordable, cost, saved
from training.evolution.field_candidates import candidates
from training.evolution.operators.clusters import Grow, Remove, Shrink, Split
from training.evolution.operators.connections import Connect, ConnectLevels, Disconnect
from training.evolution.operators.fields import AddField, DropField, SplitField
from training.evolution.policies import POLICIES, View, policy
from training.evolution.schedule import (
    change_fields,
    connect_clusters,
    connect_levels,
    drop_field,
    grow_clusters,
    prune_connections,
    remove_cluster,
    shrink_cluster,
    split_cluster,
)
from training.evolution.signals import Signals

TOPOLOGY = tiny_image_topology()  # 0 to 3 on level 0, 4 on level 1
NET = random_weights(TOPOLOGY)
ALL = [Connection(source=s, target=t) for s in range(5) for t in range(5)]
SIGNALS = Signals(
    gradient={0: 1.0, 1: 5.0, 2: 3.0, 3: 2.0, 4: 4.0},
    activity={0: 9.0, 1: 1.0, 2: 2.0, 3: 3.0, 4: 4.0},
    worth={c: 10.0 * c.source + c.target for c in ALL},
    agreement={c: 10.0 * c.target + c.source for c in ALL},
)
CONFIG = EvolutionConfig(neurons=2, grown=2, connections=3)


def view(number: int = 0, net: FrozenNet = NET, **changes: Any) -> View:
    return View(net, SIGNALS, replace(CONFIG, **changes), number, seed=0)


def dense(gates: dict[Connection, float]) -> FrozenNet:
    topology = TOPOLOGY.having(TOPOLOGY.clusters, ALL)
    return FrozenNet(topology, NET.clusters, dict.fromkeys(ALL, 1.0) | gates, NET.head)


def test_the_gradient_policy_grows_the_largest_gradient_first() -> None:
    assert grow_clusters(view(), POLICIES["gradient"]) == [Grow(1, 2), Grow(4, 2)]
    assert split_cluster(view(), POLICIES["gradient"]) == [Split(1, 1)]


def test_the_hebbian_policy_grows_what_is_most_active() -> None:
    assert grow_clusters(view(), POLICIES["hebbian"]) == [Grow(0, 2), Grow(4, 2)]


def test_connections_are_made_where_the_signal_is_largest() -> None:
    # 4 hears all others and itself already, and 0 hears 4
    gradient = connect_clusters(view(), POLICIES["gradient"])
    assert gradient == [Connect(4, 3), Connect(4, 2), Connect(4, 1)]
    hebbian = connect_clusters(view(), POLICIES["hebbian"])
    assert hebbian == [Connect(4, 3), Connect(3, 3), Connect(2, 3)]


def test_only_the_kinds_allowed_are_connected() -> None:
    forward = replace(view(), config=replace(CONFIG, kinds=(Kind.FEEDFORWARD,)))
    assert connect_clusters(forward, POLICIES["gradient"]) == []  # 4 hears all below already
    recurrent = replace(view(), config=replace(CONFIG, kinds=(Kind.RECURRENT,)))
    made = connect_clusters(recurrent, POLICIES["gradient"])
    assert made == [Connect(3, 3), Connect(2, 2), Connect(1, 1)]


def test_random_choices_depend_on_the_seed_and_the_event() -> None:
    def chosen(number: int, seed: int) -> list[object]:
        return [*connect_clusters(replace(view(number), seed=seed), POLICIES["random"])]

    assert chosen(0, 0) == chosen(0, 0)
    assert len({str(chosen(number, seed)) for number in range(3) for seed in range(3)}) == 9


def test_the_quietest_old_connections_are_pruned_first() -> None:
    quiet = Connection(source=1, target=2)
    net = dense({quiet: 0.5, Connection(source=4, target=4): 0.4})
    pruned = prune_connections(view(2, net), POLICIES["gradient"])
    assert pruned == [Disconnect(source=1, target=2)]  # 0.5 * 1.0 < 0.4 * 4.0
    safe = replace(view(2, net), young=frozenset({quiet}))
    assert Disconnect(source=1, target=2) not in prune_connections(safe, POLICIES["gradient"])


def test_the_cluster_that_says_least_is_tried_without() -> None:
    silent = replace(
        NET.clusters[2],
        send_HD=np.zeros_like(NET.clusters[2].send_HD),
        readout_HO=np.zeros_like(NET.clusters[2].readout_HO),
    )
    net = replace(NET, clusters={**NET.clusters, 2: silent})
    assert remove_cluster(view(4, net), POLICIES["gradient"]) == [Remove(2)]


def test_shrinking_takes_the_weakest_neurons_of_the_least_wanted_cluster() -> None:
    readout, send = NET.clusters[0].readout_HO.copy(), NET.clusters[0].send_HD.copy()
    readout[[3, 5]], send[[3, 5]] = 0, 0
    weights = replace(NET.clusters[0], readout_HO=readout, send_HD=send)
    net = replace(NET, clusters={**NET.clusters, 0: weights})
    assert shrink_cluster(view(1, net), POLICIES["gradient"]) == [Shrink(0, (3, 5))]


def test_splits_stay_on_the_deepest_level_allowed() -> None:
    assert split_cluster(view(max_level=0), POLICIES["gradient"]) == [Split(1, 0)]
    only_deep = replace(SIGNALS, gradient={4: 1.0})
    deep = replace(view(max_level=1), signals=only_deep)
    assert split_cluster(deep, POLICIES["gradient"]) == [Split(4, 1)]


def test_no_plan_goes_over_a_budget() -> None:
    gradient = POLICIES["gradient"]
    assert grow_clusters(view(max_parameters=TOPOLOGY.parameters), gradient) == []
    assert split_cluster(view(max_clusters=5), gradient) == []
    assert connect_clusters(view(max_connections=7), gradient) == [Connect(4, 3)]
    assert grow_clusters(view(max_macs=macs(TOPOLOGY)), gradient) == []
    grown = macs(Grow(1, 2).apply(TOPOLOGY))
    assert grow_clusters(view(max_macs=grown), gradient) == [Grow(1, 2)]
    assert affordable(TOPOLOGY, CONFIG)


def test_an_unknown_policy_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="none of"):
        policy("psychic")


# ---------------------------------------------------------------------- text: fields and buses

TEXT = random_weights(tiny_text_topology(50))  # 0 and 1 on level 0, 2 on level 1
LINKS = [Connection(source=s, target=t) for s in range(3) for t in range(3)]
PROSPECTS = dict.fromkeys(candidates(TEXT.topology), 1.0)
TEXT_SIGNALS = Signals(
    gradient={0: 1.0, 1: 5.0, 2: 3.0},
    activity={0: 9.0, 1: 1.0, 2: 2.0},
    worth=dict.fromkeys(LINKS, 1.0),
    agreement=dict.fromkeys(LINKS, 1.0),
    prospects=PROSPECTS
    | {
        AddField(0, Interval(3, 4)): 50.0,
        AddField(1, Interval(3, 4)): 40.0,
        AddField(0, Interval(5, 6)): 30.0,
    },
    resonance=PROSPECTS | {SplitField(1, 2, 6, 16): 50.0},
)


def text_view(number: int = 0, net: FrozenNet = TEXT, **changes: Any) -> View:
    config = replace(CONFIG, fields=2, buses=True, **changes)
    return View(net, TEXT_SIGNALS, config, number, seed=0)


def test_fields_are_taken_by_their_signal_once_a_cluster_and_interval() -> None:
    gradient = change_fields(text_view(), POLICIES["gradient"])
    assert gradient[0] == AddField(0, Interval(3, 4))
    assert isinstance(gradient[1], AddField | SplitField)
    assert gradient[1].cluster != 0
    assert gradient[1] != AddField(1, Interval(3, 4))
    assert change_fields(text_view(), POLICIES["hebbian"])[0] == SplitField(1, 2, 6, 16)
    assert change_fields(replace(text_view(), config=CONFIG), POLICIES["gradient"]) == []


def test_of_equal_fields_the_one_that_is_looked_up_anyway_comes_first() -> None:
    equal = replace(text_view(), signals=replace(TEXT_SIGNALS, prospects=PROSPECTS))
    shared = {i for c in TEXT.topology.clusters for i in c.intervals}
    first = change_fields(equal, POLICIES["gradient"])[0]
    assert isinstance(first, AddField)
    assert isinstance(first.field, Interval)
    assert first.field.stop - first.field.start == 1 or first.field in shared
    pooled, known = AddField(0, Interval(4, 8)), AddField(0, Interval(2, 16))
    assert added(TEXT.topology, known, CONFIG) < added(TEXT.topology, pooled, CONFIG)


def test_random_fields_are_drawn_from_the_same_candidates() -> None:
    drawn = {
        mutation
        for number in range(8)
        for mutation in change_fields(text_view(number), POLICIES["random"])
    }
    assert len(drawn) > 8
    assert drawn <= set(PROSPECTS)


def test_the_field_that_gives_least_for_its_cost_is_tried_without() -> None:
    quiet = TEXT.clusters[1].see_IH.copy()
    quiet[:16] *= 1e-3
    weights = replace(TEXT.clusters[1], see_IH=quiet)
    net = replace(TEXT, clusters={**TEXT.clusters, 1: weights})
    gradient = POLICIES["gradient"]
    assert drop_field(text_view(1, net), gradient) == [DropField(1, Interval(0, 1))]
    safe = replace(text_view(1, net), fresh=frozenset({(1, Interval(0, 1))}))
    tried = drop_field(safe, gradient)
    assert tried != [DropField(1, Interval(0, 1))]
    assert tried != [DropField(2, Interval(0, 4))]  # the only one of its cluster
    assert drop_field(text_view(0, net), gradient) == []
    spent = text_view(0, net, max_macs=macs(net.topology))
    assert drop_field(spent, gradient) == [DropField(1, Interval(0, 1))]


def test_a_bus_is_made_where_it_promises_more_per_cost_than_single_connections() -> None:
    gradient, net = POLICIES["gradient"], TEXT
    made = connect_levels(text_view(net=net), gradient)
    assert len(made) == 1
    assert isinstance(made[0], ConnectLevels)
    assert len(made[0].made(net.topology)) >= 1
    loud = replace(TEXT_SIGNALS, worth={**TEXT_SIGNALS.worth, Connection(source=2, target=1): 1e6})
    loud = replace(loud, worth={**loud.worth, Connection(source=0, target=1): 1e9})
    single = replace(text_view(net=net), signals=replace(loud))
    joined = gradient.joined(single, Connect(0, 1))
    assert joined > gradient.joined(single, ConnectLevels(1, 1))
    forward = text_view(kinds=(Kind.FEEDFORWARD,))
    assert connect_levels(forward, gradient) == []  # 2 hears all below already


def test_latency_as_the_cost_ranks_everything_per_microsecond() -> None:
    topology, dear = TEXT.topology, replace(CONFIG, cost="latency")
    assert cost(topology, dear) == latency_us(topology)
    assert cost(topology, CONFIG) == macs(topology)
    grown = grow_clusters(text_view(cost="latency"), POLICIES["gradient"])
    assert grown[0] == Grow(1, 2)
    without = Remove(2).apply(topology)
    assert saved(topology, without, dear) == pytest.approx(
        1 - latency_us(without) / latency_us(topology)
    )
