"""`python -m monitoring.draw`: serve, load, scrape, and draw what every dashboard would show.

A real server with the shipped networks under bounded load on this machine, a real Prometheus with
the shipped rules (every second instead of every 15), and matplotlib in the place of Grafana.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from luminanet import machine
from luminanet.errors import LuminaNetError
from monitoring import plots
from monitoring.board import WINDOW, Board
from monitoring.dashboards import BOARDS
from monitoring.live import START_S, Prometheus, prometheus, until
from monitoring.load import burst, load
from serving.measure.servers import served

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs" / "dashboards"
CLIENTS = 6
STEP_S = 1.0
LAST_KNOWN = 'luminanet:latency_advantage:ratio{quantile="0.99"}'
"""It needs the most pairs, which a busy machine makes slowly."""
SERVER = ("--threads", "1", "--max-batch", "8", "--queue-limit", "8", "--shadow", "1")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Draw every dashboard from Prometheus' answers.")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load, at least")
    parser.add_argument(
        "--most", type=float, default=600.0, help="seconds of load until there are enough pairs"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the pictures")
    parser.add_argument("--artifacts", type=Path, default=ROOT / "pretrained", help="networks")
    given = parser.parse_args(arguments)
    try:
        draw(given.artifacts, given.seconds, max(given.seconds, given.most), given.out)
    except (LuminaNetError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def draw(artifacts: Path, seconds: float, most_s: float, out: Path) -> None:
    """Loads for so many seconds, and on until every ratio is known, but no longer than `most_s`.

    Raises MissingExtraError without Prometheus or matplotlib, RuntimeError when a process does
    not start."""
    with (
        tempfile.TemporaryDirectory() as folder,
        served(["--artifacts", str(artifacts), *SERVER], os.environ) as server,
        prometheus((url := server.url).removeprefix("http://"), Path(folder)) as asked,
    ):
        until(lambda: bool(asked.now("luminanet_ready")), START_S, "the first scrape")
        begin_s = time.time()
        with load(url, CLIENTS, most_s):
            while (left_s := begin_s + seconds - time.time()) > 0:
                if left_s > seconds / 4:
                    burst(url)
                time.sleep(min(left_s, seconds / 4))
            while not asked.now(LAST_KNOWN) and time.time() < begin_s + most_s:
                time.sleep(STEP_S)
            span_s = begin_s, time.time()
        about = (
            f"{span_s[1] - span_s[0]:.0f} s of `python -m monitoring.draw` with "
            f"{' '.join(SERVER)}, "
            f"{CLIENTS} clients and bursts of overload, on {machine.line()}; "
            f"{datetime.now(UTC).date().isoformat()}"
        )
        pictures = {board.name: _picture(board, asked, span_s, about) for board in BOARDS}
    out.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        (out / f"{name}.png").write_bytes(picture)
        print(out / f"{name}.png")


def _picture(board: Board, asked: Prometheus, span_s: tuple[float, float], about: str) -> bytes:
    window = f"{plots.RATE_WINDOW_S:g}s"
    answers = {
        query: asked.over(query.expr.replace(WINDOW, window), *span_s, STEP_S)
        for panel in board.panels
        for query in panel.queries
    }
    return plots.png(board, answers, span_s, about)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
