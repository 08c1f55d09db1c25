"""Measures of hand-made networks, the replay of generated runs, and the page they end in."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luminanet.errors import CheckpointError, TopologyError
from luminanet.fields import Interval, TextInput
from luminanet.frozen import FrozenNet
from luminanet.topology import Cluster, Connection, Kind, Topology
from tests.nets import random_gpt2, random_net, random_topology, random_weights, tiny_image_topology
from training import checkpoint
from training.analysis.__main__ import main
from training.analysis.anatomy import Spread, measure, strengths
from training.analysis.history import History, read_events, replay, replay_to
from training.analysis.page import PARTS, SCRIPTS, Story, build, data
from training.analysis.report import lines
from training.analysis.similarity import compare, field_of, pairs, role_of
from training.config import EvolutionConfig
from training.data.batches import ImageSource
from training.evolution.evolve import Event, evolve, network
from training.evolution.operators.base import Operator
from training.evolution.operators.clusters import Grow, Remove, Shrink, Split
from training.evolution.operators.connections import Connect, Disconnect
from training.step.trainer import Trainer
from training.topologies import scales_image

SEEDS = st.integers(0, 100_000)


def text_topology(levels: list[int], links: list[tuple[int, int]]) -> Topology:
    """Cluster k sees lag k, stands on `levels[k]`; links are (source, target)."""
    return Topology(
        input=TextInput(vocab_size=20, embedding=4, window=8),
        channel=3,
        outputs=4,
        activation=tiny_image_topology().activation,
        clusters=tuple(Cluster(k, at, 2, (Interval(k, k + 1),)) for k, at in enumerate(levels)),
        connections=tuple(Connection(source=s, target=t) for s, t in links),
    )


def relabelled(net: FrozenNet, seed: int) -> FrozenNet:
    """The same network with other cluster ids."""
    old = list(net.topology.by_id)
    new = np.random.default_rng(seed).choice(200, len(old), replace=False).tolist()
    to = dict(zip(old, new, strict=True))

    def link(c: Connection) -> Connection:
        return Connection(source=to[c.source], target=to[c.target])

    return FrozenNet(
        topology=net.topology.having(
            [replace(c, id=to[c.id]) for c in net.topology.clusters],
            map(link, net.topology.connections),
        ),
        clusters={to[c]: weights for c, weights in net.clusters.items()},
        gates={link(c): gate for c, gate in net.gates.items()},
        head=net.head,
    )


# ---------------------------------------------------------------------- one network


def test_a_hand_made_network_is_measured_as_counted_by_hand() -> None:
    # 0 and 1 on level 0 hear each other; 2 on level 1 closes a ring with them; 3 hears 2 and
    # itself; 4 is alone.
    links = [(0, 1), (1, 0), (1, 2), (2, 0), (2, 3), (3, 3)]
    found = measure(random_weights(text_topology([0, 0, 1, 2, 0], links)))
    assert found.kinds == {Kind.FEEDFORWARD: 2, Kind.FEEDBACK: 3, Kind.RECURRENT: 1}
    assert found.connections == 6
    assert found.depth == 3  # 1 -> 2 -> 3
    assert found.unrolled_depth == 4  # 0 in pass 1 -> 1, 2, 3 in pass 2
    assert found.components == (3,)
    assert found.recurrent_structures == 2
    assert (found.mutual, found.triangles, found.alone) == (1, 1, 1)
    assert (found.in_degree.minimum, found.in_degree.maximum) == (0, 2)
    assert found.in_degree.mean == found.out_degree.mean == pytest.approx(6 / 5)
    assert found.levels == {0: 3, 1: 1, 2: 1}
    assert found.neurons == 10


def test_two_separate_rings_are_two_recurrent_structures() -> None:
    links = [(0, 1), (1, 0), (2, 3), (3, 4), (4, 2)]
    found = measure(random_weights(text_topology([0] * 5, links)))
    assert found.components == (3, 2)
    assert (found.recurrent_structures, found.mutual, found.triangles) == (2, 1, 1)


def test_a_network_without_connections_has_no_cycle_and_no_strength() -> None:
    found = measure(random_weights(text_topology([0, 1], [])))
    assert (found.recurrent_structures, found.depth, found.alone) == (0, 1, 2)
    assert found.unrolled_depth == 1
    assert found.strength == Spread(0, 0, 0, 0, ())


def test_strength_is_the_size_of_a_gate_over_how_many_are_heard() -> None:
    topology = text_topology([0, 0, 1], [(0, 2), (1, 2), (2, 2), (2, 0)])
    net = random_weights(topology)
    gates = dict.fromkeys(topology.connections, -0.6)
    found = strengths(replace(net, gates=gates))
    assert found[Connection(source=0, target=2)] == pytest.approx(0.2)
    assert found[Connection(source=2, target=0)] == pytest.approx(0.6)


@given(st.lists(st.integers(0, 500), min_size=1) | st.lists(st.floats(0, 1), min_size=1))
def test_the_bins_of_a_spread_hold_every_value_once(values: list[float]) -> None:
    bins = Spread.of(values).bins
    assert sum(b.count for b in bins) == len(values)
    assert all(a.high == b.low for a, b in pairwise(bins))
    assert bins[0].low <= min(values) <= max(values) <= bins[-1].high


@given(SEEDS, st.booleans())
def test_any_network_can_be_printed(seed: int, text: bool) -> None:
    net = random_net(seed, text)
    found = measure(net)
    assert found.connections == len(net.topology.connections)
    printed = list(lines("net", found))
    assert max(map(len, printed)) <= 100
    assert any(line.startswith("  depth ") for line in printed)


# ---------------------------------------------------------------------- two networks


@given(SEEDS, st.booleans())
def test_a_network_is_entirely_similar_to_itself(seed: int, text: bool) -> None:
    net = random_net(seed, text)
    assert {m.name: m.value for m in compare(net, net) if m.value != 1.0} == {}


@given(SEEDS, SEEDS, st.booleans())
def test_similarity_does_not_depend_on_cluster_ids(seed: int, other: int, text: bool) -> None:
    a, b = random_net(seed, text), random_net(other, text)
    plain, renamed = compare(a, b), compare(relabelled(a, seed), relabelled(b, other))
    assert [m.value for m in plain] == pytest.approx([m.value for m in renamed], abs=1e-9)
    assert [m.chance for m in plain] == [
        m.chance if m.chance is None else pytest.approx(m.chance) for m in renamed
    ]


@given(SEEDS, SEEDS, st.booleans())
def test_similarity_is_symmetric_and_at_most_one(seed: int, other: int, text: bool) -> None:
    a, b = random_net(seed, text), random_net(other, text)
    there, back = compare(a, b), compare(b, a)
    assert [m.value for m in there] == pytest.approx([m.value for m in back], abs=1e-9)
    assert all(m.value <= 1 and (m.value >= 0 or m.name == "hubs") for m in there)
    assert all(m.chance is None or 0 <= m.chance <= 1 + 1e-9 for m in there)


def test_similarity_of_two_networks_by_hand() -> None:
    a = random_weights(text_topology([0, 0], [(0, 1)]))
    b = random_weights(text_topology([0, 1], [(0, 1)]))
    found = {m.name: m for m in compare(a, b)}
    assert found["receptive fields"].value == 1
    assert found["clusters"].value == pytest.approx(1 / 3)  # one role shared of three
    assert found["links of fields"].value == 1
    assert found["links of roles"].value == 0
    # One connection drawn among four places meets one with chance 1/4: 1/4 over 2 - 1/4.
    assert found["links of fields"].chance == pytest.approx(1 / 7)
    assert found["in-degrees"].value == found["spectrum"].value == 1


def test_by_chance_is_what_shuffled_connections_give_on_average() -> None:
    rng = np.random.default_rng(0)
    places = [(s, t) for s in range(6) for t in range(6)]
    a, b = (
        text_topology([0] * 6, [places[k] for k in rng.choice(36, n, replace=False)])
        for n in (15, 20)
    )
    expected = next(
        m for m in compare(random_weights(a), random_weights(b)) if m.name == "links of roles"
    ).chance
    drawn = []
    for _ in range(400):
        shuffled = {places[k] for k in rng.choice(36, 20, replace=False)}
        shared = len(shuffled & {(c.source, c.target) for c in a.connections})
        drawn.append(shared / (35 - shared))
    assert expected == pytest.approx(np.mean(drawn), abs=0.01)


def test_twins_share_a_role_and_their_connections_are_counted() -> None:
    topology = Split(0, 0).apply(text_topology([0, 1], [(0, 1)]))
    zero, one = topology.cluster(0), topology.cluster(1)
    assert field_of(zero) == field_of(topology.cluster(2))
    assert pairs(topology, role_of) == {(role_of(zero), role_of(one)): 2}


# ---------------------------------------------------------------------- history


def random_mutation(rng: np.random.Generator, topology: Topology) -> Operator:
    ids = list(topology.by_id)
    one, other = (int(rng.choice(ids)) for _ in range(2))
    cluster = topology.cluster(one)
    links = topology.connections
    choices: list[Operator] = [
        Split(one, cluster.level + int(rng.integers(2))),
        Grow(one, int(rng.integers(1, 4))),
        Shrink(one, tuple(range(cluster.width // 2))),
        Connect(one, other),
        Remove(one),
    ]
    if links:
        pruned = links[rng.integers(len(links))]
        choices.append(Disconnect(pruned.source, pruned.target))
    return choices[rng.integers(len(choices))]


def random_run(seed: int, text: bool) -> tuple[Topology, list[Event]]:
    """A run that keeps what can be done by chance: the final topology, and its log."""
    rng = np.random.default_rng(seed)
    topology = start = random_topology(seed, text)
    events: list[Event] = []
    for step in range(int(rng.integers(1, 30))):
        mutation, kept = random_mutation(rng, topology), bool(rng.random() < 0.7)
        is_tried = not kept or bool(rng.random() < 0.5)
        try:
            changed = mutation.apply(topology)
        except TopologyError:
            continue
        topology = changed if kept else topology
        events.append(
            Event(
                event=step // 3,
                step=10 * step,
                seconds=0.1,
                operator=mutation.name,
                targets=[[1]],
                loss_before=2.0 if is_tried else None,
                loss_after=(1.9 if kept else float("nan")) if is_tried else None,
                kept=kept,
                clusters=len(topology.clusters),
                connections=len(topology.connections),
                parameters=topology.parameters,
                mutations=[mutation.record()],
                start="" if events else start.to_json(),
            )
        )
    return topology, events


def written(events: list[Event], path: Path) -> Path:
    path.write_text("".join(json.dumps(event.to_dict()) + "\n" for event in events), "utf-8")
    return path


def a_run() -> tuple[Topology, list[Event]]:
    runs = (random_run(seed, text=False) for seed in range(100))
    return next((final, log) for final, log in runs if len(log) > 8)


@given(SEEDS, st.booleans())
def test_the_replay_of_a_run_ends_at_its_final_topology(seed: int, text: bool) -> None:
    final, events = random_run(seed, text)
    if events:
        history = replay_to(final, [Event(**json.loads(json.dumps(e.to_dict()))) for e in events])
        assert history.final == final
        assert len(history.trials) == len(events)


def test_a_run_of_evolution_can_be_replayed_from_its_log(
    trainer: Trainer, source: ImageSource, tmp_path: Path
) -> None:
    limits = EvolutionConfig(max_parameters=40_000, max_width=16, neurons=4, connections=20)
    start, events = network(trainer).topology, list[Event]()
    for _ in range(6):
        events += evolve(trainer, source, limits, events)
        trainer.train(source.batch(trainer.step))
    history = replay(read_events(written(events, tmp_path / "evolution.jsonl")))
    assert history.start == start
    assert history.final == network(trainer).topology


def test_a_log_without_its_start_or_its_mutations_is_too_old_to_replay() -> None:
    _, events = a_run()
    for old in ([], [replace(events[0], start="")], [replace(e, mutations=[]) for e in events]):
        with pytest.raises(CheckpointError, match="train again"):
            replay(old)


def test_a_log_that_contradicts_itself_is_refused() -> None:
    _, events = a_run()
    events[4] = replace(events[4], parameters=events[4].parameters + 1)
    with pytest.raises(CheckpointError, match=r"line 5 .* are logged"):
        replay(events)


def test_a_log_that_calls_a_mutation_by_another_name_is_refused() -> None:
    _, events = a_run()
    wrong = "grow" if events[4].operator != "grow" else "split"
    with pytest.raises(
        CheckpointError, match=rf"line 5 .* called {wrong}, but {events[4].operator}"
    ):
        replay([*events[:4], replace(events[4], operator=wrong)])


def test_the_log_of_another_run_is_refused() -> None:
    _, events = a_run()
    with pytest.raises(CheckpointError, match="another run"):
        replay_to(tiny_image_topology(), events)


def test_a_log_that_is_missing_or_damaged_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not there"):
        read_events(tmp_path / "evolution.jsonl")
    for text in (b"nonsense", b'{"event": 1}', b"[1]", b"\xff\xfe", b"[" * 100_000):
        (tmp_path / "evolution.jsonl").write_bytes(text)
        with pytest.raises(CheckpointError, match="not an evolution log"):
            read_events(tmp_path / "evolution.jsonl")


# ---------------------------------------------------------------------- the page


def held(page: str) -> Any:
    """The data that a page holds."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def story(name: str = "net") -> Story:
    final, events = a_run()
    net = random_weights(final)
    return Story(name, net, replay(events), similarity=compare(net, net), other="other.pt")


def test_the_page_needs_nothing_but_itself() -> None:
    page = build(story())
    assert "http://" not in page
    assert "https://" not in page
    assert re.findall(r'(?:src|href)="([^"]*)"', page) == ["data:,"]
    assert "url(" not in page.replace("url(#tip-", "")
    assert "default-src 'none'" in page
    for place in ("/* STYLE */", "/* SCRIPT */", "/* DATA */"):
        assert place not in page


def test_the_page_holds_every_script_and_the_data() -> None:
    told = story()
    page = build(told)
    assert all((PARTS / script).read_text("utf-8") in page for script in SCRIPTS)
    raw = held(page)
    assert raw["name"] == "net"
    assert len(raw["strengths"]) == len(told.net.topology.connections)
    assert told.history
    assert len(raw["trials"]) == len(told.history.trials)
    assert [m["value"] for m in raw["similarity"]] == [1.0] * 9


def test_a_name_cannot_break_out_of_the_page() -> None:
    name = "</script><script>alert(1)</script><!--"
    page = build(story(name))
    assert page.count("</script>") == build(story()).count("</script>")
    assert held(page)["name"] == name


def test_a_loss_that_is_not_finite_is_null_on_the_page() -> None:
    trials = held(build(story()))["trials"]
    assert [t["after"] for t in trials if not t["kept"]]
    assert all(t["after"] is None for t in trials if not t["kept"])


@given(SEEDS, st.booleans())
def test_the_changes_on_the_page_fold_to_every_topology_of_the_history(
    seed: int, text: bool
) -> None:
    final, events = random_run(seed, text)
    history = replay(events) if events else History(final, ())
    told = data(Story("net", random_weights(final), history))
    clusters: dict[int, tuple[int, int]] = {}
    links: set[tuple[int, int]] = set()
    changes = [told["start"], *(trial["change"] for trial in told["trials"])]
    topologies = [history.start, *(trial.topology for trial in history.trials)]
    for change, topology in zip(changes, topologies, strict=True):
        for gone in change["remove"]:
            del clusters[gone]
        clusters |= {c["id"]: (c["level"], c["width"]) for c in change["put"]}
        links -= {(s, t) for s, t in change["disconnect"]}
        links |= {(s, t) for s, t in change["connect"]}
        assert clusters == {c.id: (c.level, c.width) for c in topology.clusters}
        assert links == {(c.source, c.target) for c in topology.connections}


# ---------------------------------------------------------------------- the command


def save(path: Path, final: Topology) -> Path:
    path.parent.mkdir(exist_ok=True)
    checkpoint.save(path, checkpoint.Checkpoint("net", random_weights(final)))
    return path


def test_the_command_prints_and_writes_the_page_beside_the_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final, events = a_run()
    path = save(tmp_path / "ckpt.pt", final)
    written(events, tmp_path / "evolution.jsonl")
    assert main([str(path)]) == 0
    out, err = capsys.readouterr()
    assert "recurrent structures" in out
    assert "similarity" not in out
    assert err == ""
    raw = held((tmp_path / "topology.html").read_text("utf-8"))
    assert len(raw["trials"]) == len(events)
    assert {trial["words"].split()[0] for trial in raw["trials"]} <= {
        "split",
        "grow",
        "shrink",
        "add",
        "prune",
        "remove",
    }
    assert raw["similarity"] == []


def test_the_page_frames_means_of_pixels_in_the_image() -> None:
    net = random_weights(scales_image(4, 4, 0))
    put = data(Story("net", net, None))["start"]["put"]
    fields = [cluster["fields"] for cluster in put]
    assert fields[:2] == [[[0, 0, 8, 8, 1, 0, 1, 2]], [[0, 16, 8, 8, 1, 0, 1, 2]]]
    assert fields[9] == [[0, 8, 16, 16, 2, 0, 1, 2]]
    assert fields[16:] == [[[0, 0, 32, 32, 4, 0, 1, 2]]] * 8


def test_the_command_compares_two_networks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "ckpt.pt", a_run()[0])
    page = tmp_path / "page.html"
    assert main([str(path), "--with", str(path), "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"spectrum +1\.00 .*Laplacian", out)
    assert held(page.read_text("utf-8"))["other"] == str(path)


def test_without_a_log_the_command_shows_the_final_network_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final, events = a_run()
    path = save(tmp_path / "ckpt.pt", final)
    assert main([str(path)]) == 0
    assert "no history" in capsys.readouterr().err
    written([replace(event, start="", mutations=[]) for event in events], tmp_path / "old.jsonl")
    assert main([str(path), "--events", str(tmp_path / "old.jsonl")]) == 0
    assert "cannot be replayed" in capsys.readouterr().err
    raw = held((tmp_path / "topology.html").read_text("utf-8"))
    assert raw["trials"] == []
    assert "cannot be replayed" in raw["note"]
    assert {c["id"] for c in raw["start"]["put"]} == set(final.by_id)


def test_what_cannot_be_analysed_is_a_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint.save(tmp_path / "gpt2.pt", checkpoint.Checkpoint("g", random_gpt2(0)))
    path = save(tmp_path / "ckpt.pt", a_run()[0])
    for argv, reason in (
        ([str(tmp_path / "gpt2.pt")], "GPT-2"),
        ([str(tmp_path / "none.pt")], "not there"),
        ([str(path), "--with", str(tmp_path / "gpt2.pt")], "GPT-2"),
        ([str(path), "--events", str(tmp_path / "none.jsonl")], "not there"),
    ):
        assert main(argv) == 2
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "topology.html").exists()
