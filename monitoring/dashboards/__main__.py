"""`python -m monitoring.dashboards`: the dashboards of this package -> JSON that Grafana reads."""

import argparse
import sys
from pathlib import Path

from luminanet.errors import LuminaNetError
from monitoring.dashboards import BOARDS
from monitoring.render import to_json

FOLDER = Path(__file__).parent.parent / "grafana" / "dashboards"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the JSON of the dashboards.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write into")
    out = parser.parse_args().out
    try:
        texts = {f"{board.name}.json": to_json(board) for board in BOARDS}
    except LuminaNetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (out / name).write_text(text, "utf-8")
    print(f"{len(texts)} dashboards in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
