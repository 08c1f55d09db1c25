"""`python -m benchmarks.peers [ARTIFACTS]`: one image classifier behind other servers, and ours.

LitServe, BentoML and FastAPI, each as its documentation advises, run the same ONNX file with the
same onnxruntime, Pillow and NumPy (requirements/peers.txt, installed into --environment when it is
not there; no torch); ours serves as `make serve` does, all shipped networks. wrk sends one picture
over and over. Rounds are interleaved, their order rotates, and who is not measured is stopped.
Writes benchmarks/peers.md and peers.json.
"""

import argparse
import io
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from benchmarks.peers.contenders import REQUIREMENTS, Running, contenders, environment, running
from benchmarks.peers.wrk import Driven, drive, version
from benchmarks.report import provenance, table
from loadtest.workload import PICTURES, Call, picture
from luminanet.errors import DataError, LuminaNetError
from serving.models.load import find

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / ".venv-peers"
WARM_S = 1.0


@dataclass(frozen=True, slots=True)
class Round:
    """What wrk saw, and seconds of CPU that the server took for it."""

    driven: Driven
    cpu_s: float

    @property
    def cost_s(self) -> float:
        """Of CPU a request: other work on the machine moves it least."""
        return self.cpu_s / self.driven.requests


Rounds = Mapping[str, Sequence[Round]]
"""By the name of a server."""


def measure(given: argparse.Namespace) -> Rounds:
    """Raises LuminaNetError when a server does not serve, or they disagree."""
    version()
    peers = environment(given.environment)
    artifact = _images(given.artifacts)
    png = picture_of(given.side, given.seed)
    found: dict[str, list[Round]] = {}
    with running(contenders(given.artifacts), peers, artifact) as servers:
        _agree(servers, png)
        for number in range(given.rounds):
            turn = number % len(servers)
            for server in [*servers[turn:], *servers[:turn]]:
                call = server.contender.ask(png)
                with server.awake():
                    drive(server.url, call, given.connections, WARM_S)
                    before_s = server.cpu_s
                    driven = drive(server.url, call, given.connections, given.seconds)
                    one = Round(driven, server.cpu_s - before_s)
                found.setdefault(server.contender.name, []).append(one)
                print(f"{number + 1}: {server.contender.name}: {driven}", file=sys.stderr)
    return {server.contender.name: found[server.contender.name] for server in servers}


def _images(artifacts: Path) -> Path:
    """The folder of the image classifier's artifact."""
    for folder in find(artifacts):
        if "image" in json.loads((folder / "manifest.json").read_text("utf-8"))["task"]:
            return folder.resolve()
    raise DataError(f"there is no image classifier under {artifacts}")


def picture_of(side: int, seed: int) -> bytes:
    """A PNG of a smooth pattern."""
    file = io.BytesIO()
    Image.open(io.BytesIO(picture(seed % PICTURES))).resize((side, side)).save(file, "PNG")
    return file.getvalue()


def _agree(servers: Sequence[Running], png: bytes) -> None:
    """Waits until all serve, and stops each."""
    labels = {}
    for server in servers:
        call: Call = server.contender.ask(png)
        labels[server.contender.name] = server.label(call)
    for server in servers:
        with server.awake():
            pass
    if len(set(labels.values())) != 1:
        raise DataError(f"the servers see different things in a picture: {labels}")


# ---------------------------------------------------------------------- the page


def page(rounds: Rounds, given: argparse.Namespace) -> str:
    ours = next(iter(rounds.values()))
    rows, ratios = [], []
    for name, found in rounds.items():
        driven = [one.driven for one in found]
        rows.append(
            [
                name,
                _spread([one.rate for one in driven], "{:.0f}"),
                _spread([1e3 * one.p50_s for one in driven], "{:.1f} ms"),
                _spread([1e3 * one.p99_s for one in driven], "{:.1f} ms"),
                str(sum(one.errors for one in driven)),
                _spread([1e3 * one.cost_s for one in found], "{:.2f} ms"),
            ]
        )
        both = [*zip(ours, found, strict=True)]
        ratios.append(
            [
                name,
                _spread([a.driven.rate / b.driven.rate for a, b in both], "{:.2f}"),
                _spread([b.driven.p99_s / a.driven.p99_s for a, b in both], "{:.2f}"),
                _spread([b.cost_s / a.cost_s for a, b in both], "{:.2f}"),
            ]
        )
    return (
        f"wrk, {given.connections} connections, one PNG of {given.side}x{given.side} pixels, "
        f"{given.rounds} interleaved rounds of {given.seconds:g} s; medians (least to most). Load "
        "and servers share the machine.\n\n"
        f"{table(['server', 'requests/s', 'p50', 'p99', 'errors', 'CPU a request'], rows)}\n"
        "LuminaNet (the first row) against each, within a round; above 1 it is ahead.\n\n"
        f"{table(['against', 'requests/s', 'p99', 'CPU a request'], ratios)}"
    )


def _spread(values: Sequence[float], form: str) -> str:
    least, middle, most = (form.format(f(values)) for f in (min, statistics.median, max))
    return f"{middle} ({least} to {most})"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("artifacts", type=Path, nargs="?", default=Path("pretrained"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a server in a round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--side", type=int, default=32, help="of the picture, in pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--environment", type=Path, default=FOLDER, help="of the other servers")
    parser.add_argument("--page", type=Path, default=HERE.parent / "peers.md")
    given = parser.parse_args(argv)
    try:
        rounds = measure(given)
        text = page(rounds, given)
        note = _note(given)
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    given.page.write_text(f"# Other servers\n\n{text}\n{note}", "utf-8")
    figures = {name: [asdict(one) for one in driven] for name, driven in rounds.items()}
    told = {"provenance": note.strip(), "rounds": figures}
    given.page.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    return 0


def _note(given: argparse.Namespace) -> str:
    """With the versions that are measured, of both environments."""
    command = f"python -m benchmarks.peers --rounds {given.rounds} --side {given.side}"
    line = provenance(command, ("onnxruntime", "uvicorn", "pillow"), str(given.seed))
    return f"{version()}; peers: {', '.join(_versions())}. {line}"


def _versions() -> list[str]:
    wanted = ("litserve", "bentoml", "fastapi", "uvicorn", "onnxruntime", "pillow")
    pins = (line.partition("==") for line in REQUIREMENTS.read_text("utf-8").splitlines())
    return [f"{name} {pin}" for name, _, pin in pins if name.lower() in wanted]


if __name__ == "__main__":
    sys.exit(main())
