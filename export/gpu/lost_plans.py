"""What becomes of the plans in an artifact when it is frozen again: they go with the old graphs."""

from collections.abc import Mapping
from pathlib import Path

from luminanet.artifact.manifest import MODEL
from luminanet.artifact.tensorrt_plan import PLAN, REBUILD, open_plan, rebuild_command
from luminanet.errors import ArtifactError

Plans = Mapping[str, str]
"""The name of a plan -> the command that builds it again, in backquotes."""


def plans_in(directory: Path) -> Plans:
    """The plans in a folder, of which there may be none, as there may be no folder."""
    return {path.name: _again(path) for path in sorted(directory.glob(f"*{Path(PLAN).suffix}"))}


def _again(plan: Path) -> str:
    try:
        return rebuild_command(plan.parent, open_plan(plan))
    except ArtifactError:  # what was said of it is missing or damaged: its name tells the graph
        model = _graph(plan).name
        return f"`{REBUILD} {plan.parent}{'' if model == MODEL else f' --model {model}'}`"


def lost(before: Plans, directory: Path) -> str:
    """One line on the plans that were there before and are not now; "" when none is lost."""
    gone = {name: again for name, again in before.items() if not (directory / name).exists()}
    if not gone:
        return ""
    mendable = [again for name, again in gone.items() if _graph(directory / name).exists()]
    again = f"build again with {' and '.join(mendable)}" if mendable else "freeze with --tensorrt"
    return f"{', '.join(gone)} went with the graphs that were replaced: {again}"


def _graph(plan: Path) -> Path:
    return plan.with_suffix(Path(MODEL).suffix)
