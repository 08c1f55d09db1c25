"""Command line: `python -m training.analysis ckpt.pt` prints what evolution made, and writes
topology.html beside the checkpoint."""

import argparse
import sys
from pathlib import Path

from luminanet.artifact.files import replacing
from luminanet.errors import CheckpointError, LuminaNetError, finish, told
from luminanet.frozen import FrozenNet
from training import checkpoint
from training.analysis.anatomy import measure
from training.analysis.history import History, read_events, replay_to
from training.analysis.page import Story, build
from training.analysis.report import comparison, lines
from training.analysis.similarity import compare
from training.run.run import EVENTS

PAGE = "topology.html"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m training.analysis", description=__doc__)
    p.add_argument("checkpoint", type=Path, help="ckpt.pt of a LuminaNet")
    p.add_argument("--with", dest="other", type=Path, help="another ckpt.pt to compare it with")
    p.add_argument("--events", type=Path, help=f"log of the evolution (default {EVENTS} beside it)")
    p.add_argument("--html", type=Path, help=f"page to write (default {PAGE} beside it)")
    return p


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    return finish(
        lambda: _analyse(arguments), lambda error: f"{told(error)}: name another with --html"
    )


def _analyse(arguments: argparse.Namespace) -> None:
    """Prints the report and writes the page. Raises LuminaNetError or OSError."""
    path: Path = arguments.checkpoint
    loaded, net = _evolved(path)
    other = _evolved(arguments.other)[1] if arguments.other else None
    history, note = _history(arguments.events, path, net)
    title = f"{loaded.name} ({path})"
    print("\n".join(lines(title, measure(net))))
    similarity = compare(net, other) if other else ()
    if other:
        print("\n".join(comparison(str(arguments.other), similarity)))
    if note:
        print(f"no history: {note}", file=sys.stderr)
    shown = str(arguments.other) if other else ""
    story = Story(loaded.name, net, history, note, loaded.figures, shown, similarity)
    page: Path = arguments.html or path.with_name(PAGE)
    with replacing(page) as file:
        file.write(build(story).encode())
    print(f"{page}: open it in a browser, it needs no network")


def _evolved(path: Path) -> tuple[checkpoint.Checkpoint, FrozenNet]:
    loaded = checkpoint.load(path)
    if not isinstance(loaded.net, FrozenNet):
        raise CheckpointError(f"{path} holds a GPT-2, which has no topology: name a LuminaNet")
    return loaded, loaded.net


def _history(given: Path | None, path: Path, net: FrozenNet) -> tuple[History | None, str]:
    """The history, or why there is none; a log that was asked for must at least be readable."""
    try:
        events = read_events(given or path.with_name(EVENTS))
        return replay_to(net.topology, events), ""
    except LuminaNetError as error:
        if given and not given.exists():
            raise
        return None, str(error)


if __name__ == "__main__":
    sys.exit(main())
