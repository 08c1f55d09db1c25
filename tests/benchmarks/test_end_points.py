from dataclasses import replace

import pytest

from benchmarks.end_points import SAME, Distance, End, distance, rows, section
from luminanet.topology import Connection, Topology
from training.topologies import dense_image, fine_image, scales_dense_image

DENSE = dense_image(8, 4, 0)
OTHER = replace(DENSE, clusters=(replace(DENSE.clusters[0], width=9), *DENSE.clusters[1:]))


def without(share: float, topology: Topology = DENSE) -> Topology:
    """Less the last share of its connections."""
    kept = round((1 - share) * len(topology.connections))
    return topology.having(topology.clusters, topology.connections[:kept])


def test_a_topology_is_at_no_distance_from_itself() -> None:
    assert distance(DENSE, DENSE) == Distance(1, 1, 1)
    assert distance(DENSE, DENSE).is_same


def test_ids_do_not_matter() -> None:
    shifted = [replace(c, id=c.id + 100) for c in DENSE.clusters]
    links = [Connection(c.target + 100, c.source + 100) for c in DENSE.connections]
    assert distance(DENSE, DENSE.having(shifted, links)) == Distance(1, 1, 1)


def test_other_widths_and_fewer_of_the_same_connections_are_another_network() -> None:
    assert distance(DENSE, without(0.1)).connections == pytest.approx(0.9, abs=0.01)
    assert distance(DENSE, without(0.1)).is_same
    assert not distance(DENSE, without(1.1 - SAME)).is_same
    assert distance(DENSE, OTHER).widths == pytest.approx(23 / 25)
    assert not distance(DENSE, OTHER).is_same


def test_a_network_that_sees_something_else_is_another_one() -> None:
    pyramid = scales_dense_image(8, 4, 0)
    found = distance(DENSE, pyramid)
    assert found.widths == 1
    # The eight windows of the image are those of the grid, on its lower level.
    assert 0 < found.fields < 0.3
    assert not found.is_same
    assert distance(DENSE, fine_image(8, 4, 0)).connections == 0


def test_what_ends_in_the_same_network_is_not_compared() -> None:
    ends = {
        "a": {0: End(DENSE, 62.0), 1: End(DENSE, 63.0)},
        "b": {0: End(without(0.1), 61.0), 1: End(DENSE, 61.5), 2: End(DENSE, 60.0)},
        "c": {0: End(DENSE, 60.0), 1: End(without(0.9), 60.0)},
    }
    compared = (("a", "b"), ("a", "c"), ("a", "d"))
    same, differing = rows(ends, compared, digits=1)
    assert same == ["a, b", "2", "1.00", "1.00", "0.95", "not reported: the same network"]
    assert differing[:4] == ["a, c", "2", "1.00", "1.00"]
    assert differing[5] == "+2.5 ± 0.7"
    text = section(ends, compared, "top-1 in points", digits=1)
    assert "more than 80%\nof the connections" in text
    assert "| a, c | 2 |" in text
    assert section(ends, [("a", "d")], "top-1", digits=1) == ""
