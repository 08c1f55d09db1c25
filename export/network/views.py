"""What clusters see together: one tensor in the graph, which one matrix multiplies."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from luminanet.fields import View, view_of
from luminanet.topology import Topology

Views = Mapping[View, str]
"""What is to be seen together -> a name for it."""
Seen = Mapping[View, str]
"""What is seen together -> the tensor of it, [B, I]."""
Key = TypeVar("Key", bound=Hashable)


def by_cluster(topology: Topology) -> Views:
    """Clusters that see the same see it together."""
    own = {c.id: view_of(c.fields) for c in topology.clusters if c.fields}
    return {view: f"{named(ids)}/fields" for view, ids in grouped(own, own.__getitem__)}


def by_level(topology: Topology) -> Views:
    """Everything that any cluster of a level sees."""
    return {view: f"level{level}/fields" for level, view in topology.level_views.items() if view}


def named(ids: Sequence[int]) -> str:
    return f"cluster{'s' * (len(ids) > 1)}{','.join(map(str, ids))}"


def grouped(items: Iterable[int], key: Callable[[int], Key]) -> list[tuple[Key, list[int]]]:
    """Items of one key together, in the order in which keys appear."""
    groups: dict[Key, list[int]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())
