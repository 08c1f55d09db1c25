"""evolution.jsonl -> History: every topology that a run went through, replayed exactly.

The first trial of a log holds the topology that the run started from, and every trial the mutations
that it tried (training/evolution/evolve.py, Event). Replaying checks the log against itself.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from luminanet.errors import CheckpointError, TopologyError
from luminanet.topology import Topology
from training.evolution.evolve import Event
from training.evolution.operators.base import recorded


@dataclass(frozen=True, slots=True)
class Trial:
    """One line of the log and the topology after it."""

    event: Event
    topology: Topology


@dataclass(frozen=True, slots=True)
class History:
    start: Topology
    trials: tuple[Trial, ...]

    @property
    def final(self) -> Topology:
        return self.trials[-1].topology if self.trials else self.start


def read_events(path: Path) -> list[Event]:
    """Raises CheckpointError when the log is missing, damaged or of another version."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is not there: train with evolution to write it") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path} is not an evolution log of this version: {error}") from error
    try:
        return [Event(**json.loads(line)) for line in lines]
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is not an evolution log of this version: {error}") from error


def replay(events: Sequence[Event]) -> History:
    """Raises CheckpointError when the log is too old to replay or contradicts itself."""
    if not events or not events[0].start or not all(event.mutations for event in events):
        raise CheckpointError(
            "the evolution log was written before logs held the start of a run and its mutations, "
            "so it cannot be replayed: train again to have one that can"
        )
    topology = start = Topology.from_json(events[0].start)
    trials = []
    for number, event in enumerate(events, 1):
        try:
            topology = _after(topology, event)
        except TopologyError as error:
            raise CheckpointError(f"line {number} of the evolution log: {error}") from error
        trials.append(Trial(event, topology))
    return History(start, tuple(trials))


def replay_to(final: Topology, events: Sequence[Event]) -> History:
    """`replay`; raises CheckpointError when it does not end at `final`."""
    history = replay(events)
    if history.final != final:
        raise CheckpointError(
            "the evolution log ends at another network than the checkpoint holds: "
            "it belongs to another run"
        )
    return history


def _after(topology: Topology, event: Event) -> Topology:
    mutations = [recorded(raw) for raw in event.mutations]
    if event.operator != mutations[0].name:
        raise TopologyError(f"called {event.operator}, but {mutations[0].name} is logged")
    for mutation in mutations if event.kept else []:
        topology = mutation.apply(topology)
    found = (len(topology.clusters), len(topology.connections), topology.parameters)
    logged = (event.clusters, event.connections, event.parameters)
    if found != logged:
        raise TopologyError(
            f"replayed to {found} clusters, connections and parameters, but {logged} are logged"
        )
    return topology
