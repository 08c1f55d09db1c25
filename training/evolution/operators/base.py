"""What a mutation operator is: topology -> topology, what becomes of the weights, and its record.

A mutation is an operator with its arguments, as frozen data. Source of the operators: arXiv
2601.19508 (splitting, growth, connection, pruning); which of them keep the function, and how, is
our choice.

A new operator is a class in this package and a line of schedule.SCHEDULE. It may leave `carry`
as it is (what stays keeps its numbers), and whoever reads the log finds it by its name.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum, auto
from typing import Any, ClassVar, Self

import numpy as np

from luminanet.errors import TopologyError
from luminanet.fields import TextField
from luminanet.frozen import ClusterWeights, FrozenNet
from luminanet.topology import Connection, Topology


class Role(Enum):
    """What the numbers of a container are: they follow a mutation differently.

    Adam's moments have the shape of the weights: they are copied, not scaled. New ones start at
    zero, but new second moments at the mean of their neighbours', so that the first steps of what
    is new are no larger than theirs.
    """

    WEIGHT = auto()
    FIRST_MOMENT = auto()
    SECOND_MOMENT = auto()


Field = tuple[int, TextField]
"""A cluster and what it sees."""
Carried = tuple[dict[int, ClusterWeights], dict[Connection, float]]
"""The weights of the clusters and the gates of the connections after a mutation."""


@dataclass(frozen=True)
class Operator(ABC):
    """One way to change a network; an instance is one change, its fields are its arguments."""

    __slots__ = ()
    name: ClassVar[str]
    """How logs call it: evolution.jsonl is replayed, so names stay."""
    verb: ClassVar[str]
    noun: ClassVar[str]
    """What it does to how many clusters, connections or fields, for people: `described`."""
    exact: ClassVar[bool] = True
    """Whether it keeps the function. If not, the loss that it may cost goes with what it saves."""
    connects: ClassVar[bool] = False
    """Whether its targets are connections that it makes; young ones are not pruned."""

    def __init_subclass__(cls) -> None:
        # Called twice a class: dataclass(slots=True) makes a second one, and that one stays.
        if "name" in vars(cls):
            known = OPERATORS.setdefault(cls.name, cls)
            assert known.__qualname__ == cls.__qualname__, f"two operators are called {cls.name}"
            OPERATORS[cls.name] = cls

    @abstractmethod
    def apply(self, topology: Topology) -> Topology:
        """The mutated topology; raises TopologyError when the mutation cannot be done."""

    @abstractmethod
    def targets(self, before: Topology) -> list[list[int]]:
        """What it is about, for the log: clusters as [cluster], connections as [source, target],
        fields as [cluster, numbers of the field ...]."""

    def carry(self, net: FrozenNet, _role: Role, _rng: np.random.Generator) -> Carried:
        """Weights and gates of `net` after the mutation, as far as they are new or others.

        What is not in the mutated topology is left out afterwards, a connection without a gate
        gets 0, and all gates make up for a new number of sources (transplant.py). The generator
        draws the same numbers for every role.
        """
        return dict(net.clusters), dict(net.gates)

    def brings(self) -> tuple[Field, ...]:
        """The receptive fields that it adds; young ones are not dropped."""
        return ()

    def record(self) -> dict[str, Any]:
        """Plain JSON types; `recorded` reads them back."""
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        return {"operator": self.name, **plain}

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Self:
        """The arguments of a record, as JSON has them -> the mutation."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()})

    @classmethod
    def described(cls, targets: Sequence[Sequence[int]]) -> str:
        """In words, as `grow cluster 3` or `add 12 connections`."""
        nouns = cls.noun if len(targets) == 1 else f"{cls.noun}s"
        if cls.noun == CLUSTER:
            return f"{cls.verb} {nouns} {', '.join(str(n) for own in targets for n in own)}"
        return f"{cls.verb} {len(targets):,} {nouns}"


CLUSTER, CONNECTION, FIELD = "cluster", "connection", "field"
OPERATORS: dict[str, type[Operator]] = {}
"""Every operator by its name; a class with a name is in it."""


def operator(name: str) -> type[Operator]:
    """Raises TopologyError when there is none of that name."""
    if name not in OPERATORS:
        raise TopologyError(f"{name!r} is none of the operators {', '.join(sorted(OPERATORS))}")
    return OPERATORS[name]


def recorded(raw: Mapping[str, Any]) -> Operator:
    """Raises TopologyError when `raw` is not what `Operator.record` writes."""
    plain = dict(raw)
    try:
        return OPERATORS[plain.pop("operator")].read(plain)
    except (KeyError, TypeError) as error:
        raise TopologyError(f"{dict(raw)} is not a mutation: {error}") from error
