"""`python -m benchmarks.structure [ROOT]`: how a checkout is put together, by its imports alone.

A *room* is a module or folder at the top of a package, an *arrow* leads from a room to another one
of its package that it imports (in functions and for types too). An arrow is *upward* where the
layers of pyproject.toml ([tool.importlinter]) put the room that is imported above. A *circle* is a
largest set of rooms that all reach each other; circles are looked for in every folder. Nothing is
imported, so that any commit can be looked at: `git worktree add DIR COMMIT`, then DIR as ROOT.
"""

import argparse
import ast
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import table

PACKAGES = ("luminanet", "training", "export", "serving", "benchmarks")
ROOT = Path(__file__).parent.parent
HEADER = ("package", "modules", "rooms", "arrows", "longest flat list", "upward", "circles")

Arrow = tuple[str, str]
"""Importing and imported, by their dotted names."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A package. `upward` is None where no layers are declared."""

    name: str
    modules: int
    rooms: tuple[str, ...]
    arrows: frozenset[Arrow]
    longest: int
    """Modules and folders in the folder that holds most of them."""
    upward: tuple[Arrow, ...] | None
    circles: tuple[tuple[str, ...], ...]

    def row(self) -> tuple[str, ...]:
        upward = "no layers" if self.upward is None else str(len(self.upward))
        sizes = (self.modules, len(self.rooms), len(self.arrows), self.longest)
        return (f"`{self.name}`", *map(str, sizes), upward, str(len(self.circles)))

    def faults(self) -> Iterator[str]:
        yield from (f"upward: {source} -> {target}" for source, target in self.upward or ())
        yield from (f"circle: {', '.join(circle)}" for circle in self.circles)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structure", description=__doc__)
    parser.add_argument("root", type=Path, nargs="?", default=ROOT, help="a checkout (this one)")
    found = shapes(parser.parse_args(argv).root)
    print(table(HEADER, [shape.row() for shape in found]), end="")
    faults = [line for shape in found for line in shape.faults()]
    print("".join(f"{line}\n" for line in faults), end="")
    return 1 if faults else 0


def shapes(root: Path) -> list[Shape]:
    """Of the packages that `root` has."""
    layers = layers_of(root)
    return [shape(root, name, layers.get(name)) for name in PACKAGES if (root / name).is_dir()]


def shape(root: Path, package: str, layers: Mapping[str, int] | None = None) -> Shape:
    files = modules_of(root, package)
    imports = {name: imported(name, path, files) for name, path in files.items()}
    by_folder = {folder: arrows_in(folder, imports) for folder in folders_of(files)}
    arrows = by_folder[package]
    children = {folder: children_of(folder, files) for folder in by_folder}
    circles = [found for inside in by_folder.values() for found in circles_of(inside)]
    return Shape(
        package,
        len(files),
        tuple(sorted(children[package])),
        frozenset(arrows),
        max(map(len, children.values())),
        None if layers is None else tuple(sorted(upward_of(arrows, layers))),
        tuple(sorted(circles)),
    )


def modules_of(root: Path, package: str) -> dict[str, Path]:
    """Dotted name -> file; a package is its __init__.py."""
    files = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def imported(name: str, path: Path, known: Iterable[str]) -> set[str]:
    """What of `known` a module imports: modules, and packages of which it takes something else."""
    known = set(known)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set[str]()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            deeper = {f"{base}.{alias.name}" for alias in node.names}
            found |= (deeper & known) | ({base} if deeper - known else set())
    return found & known


def _base(node: ast.ImportFrom, package: str) -> str:
    """The module that `from` names, relative ones made whole."""
    if not node.level:
        return node.module or ""
    above = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def folders_of(files: Iterable[str]) -> set[str]:
    """The package and its folders; one may lack its __init__.py."""
    names = [name.split(".") for name in files]
    return {".".join(parts[:k]) for parts in names for k in range(1, max(2, len(parts)))}


def children_of(folder: str, files: Iterable[str]) -> set[str]:
    """The rooms of a folder: modules and folders right inside it."""
    return {child for name in files if (child := child_of(folder, name))}


def child_of(folder: str, name: str) -> str:
    """The room of `folder` in which a module is; "" where it is in none."""
    if not name.startswith(f"{folder}."):
        return ""
    return ".".join(name.split(".")[: folder.count(".") + 2])


def arrows_in(folder: str, imports: Mapping[str, set[str]]) -> set[Arrow]:
    """Between the rooms of a folder."""
    ends = {
        (child_of(folder, source), child_of(folder, target))
        for source, targets in imports.items()
        for target in targets
    }
    return {(source, target) for source, target in ends if source and target and source != target}


def circles_of(arrows: Iterable[Arrow]) -> list[tuple[str, ...]]:
    """Largest sets of rooms that all reach each other."""
    after = dict[str, set[str]]()
    for source, target in arrows:
        after.setdefault(source, set()).add(target)
    reach = {room: _reached(room, after) for room in after}
    groups = {
        tuple(sorted({room, *(other for other in found if room in reach.get(other, ()))}))
        for room, found in reach.items()
        if room in found
    }
    return sorted(groups)


def _reached(room: str, after: Mapping[str, set[str]]) -> set[str]:
    found, waiting = set[str](), [room]
    while waiting:
        new = after.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


def layers_of(root: Path) -> dict[str, dict[str, int]]:
    """Package -> room -> its layer, 0 the lowest, as import-linter's contracts declare them."""
    config = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    contracts: list[dict[str, Any]] = (
        config.get("tool", {}).get("importlinter", {}).get("contracts", [])
    )
    return {
        container: {
            f"{container}.{room.strip(' ()')}": height
            for height, layer in enumerate(reversed(contract["layers"]))
            for room in layer.replace("|", ":").split(":")
        }
        for contract in contracts
        if contract["type"] == "layers"
        for container in contract.get("containers", ())
    }


def upward_of(arrows: Iterable[Arrow], layers: Mapping[str, int]) -> list[Arrow]:
    return [
        (source, target)
        for source, target in arrows
        if source in layers and target in layers and layers[source] < layers[target]
    ]


if __name__ == "__main__":
    raise SystemExit(main())
