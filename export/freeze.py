"""The command line: ckpt.pt -> network -> ONNX graph -> verified -> artifact.

    python export/freeze.py runs/tinystories/ckpt.pt [--out DIR] [--dry-run]

The same checkpoint gives the same bytes every time, and nothing is written when the graph and the
numpy reference are apart. Needs the project installed (`pip install -e .`).
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from export.baseline import unroll_gpt2
from export.pack import Label, Package, pack
from export.unroll import unroll
from export.verify import TOLERANCE, Verification, verify
from luminanet import manifest
from luminanet.errors import LuminaNetError, MissingExtraError
from luminanet.gpt2 import Gpt2Net

if TYPE_CHECKING:
    from training.checkpoint import Checkpoint


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 with one line on stderr for what a user can mend."""
    arguments = _parser().parse_args(argv)
    out = arguments.out or arguments.checkpoint.parent / "artifact"
    try:
        freeze(arguments.checkpoint, None if arguments.dry_run else out)
    except (LuminaNetError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def freeze(path: Path, out: Path | None) -> Package:
    """All arrows in order, with progress on stdout; `out` None writes nothing.

    Raises a LuminaNetError: CheckpointError, ExportError, VerificationError, ArtifactError.
    """
    with _step(f"load {path}"):
        checkpoint = _load(path)
    net = checkpoint.net
    with _step("unroll"):
        model = unroll_gpt2(net) if isinstance(net, Gpt2Net) else unroll(net)
    with _step("verify"):
        verification = verify(model, net)
    with _step("pack"):
        package = pack(net, model, _label(checkpoint))
    if out:
        with _step(f"write {out}"):
            manifest.write(out, package.manifest, package.files)
    print(_report(package, model, verification, out))
    return package


def _load(path: Path) -> "Checkpoint":
    try:
        from training.checkpoint import load
    except ImportError as error:
        raise MissingExtraError("torch", "export") from error
    return load(path)


def _label(checkpoint: "Checkpoint") -> Label:
    """The tolerance stands for the measured difference, which depends on the machine."""
    commands = [checkpoint.command, "python export/freeze.py ckpt.pt"]
    return Label(
        name=checkpoint.name,
        tokenizer=checkpoint.tokenizer,
        classes=checkpoint.labels,
        figures={**checkpoint.figures, "verified_within": TOLERANCE},
        command=" && ".join(filter(None, commands)),
    )


def _report(
    package: Package, model: onnx.ModelProto, verification: Verification, out: Path | None
) -> str:
    described = package.manifest
    sizes = (f"{name} {len(data):,} bytes" for name, data in package.files.items())
    rows = {
        "name": described.name,
        "network": described.summary,
        "parameters": f"{described.parameters:,}",
        "MACs": f"{described.macs:,} in {len(model.graph.node)} nodes",
        "files": ", ".join(sizes),
        "difference": f"at most {verification.difference:.1e} from the numpy reference",
        "artifact": str(out) if out else "not written (--dry-run)",
    }
    return "\n".join(f"{name:<12}{text}" for name, text in rows.items())


@contextmanager
def _step(name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    print(f"{time.perf_counter() - start:6.2f} s  {name}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="freeze", description="Freeze a checkpoint into a verified ONNX artifact."
    )
    add = parser.add_argument
    add("checkpoint", type=Path, help="ckpt.pt, written by `python -m training.train`")
    add("--out", type=Path, help="folder of the artifact (default: artifact/ beside ckpt.pt)")
    add("--dry-run", action="store_true", help="verify, but write nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
