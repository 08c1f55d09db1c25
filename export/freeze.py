"""The command line: ckpt.pt -> network -> ONNX graphs -> verified -> artifact.

    python export/freeze.py runs/tinystories/ckpt.pt [--out DIR] [--dry-run]
    python export/freeze.py ckpt.pt --precision fp32,int8 [--examples FILE.npz]
    python export/freeze.py gpt2/ckpt.pt --decode 1,4,8    what a call may draw; none: no decoding
    python export/freeze.py gpt2/                          a GPT-2 directory of Hugging Face
    python export/freeze.py ckpt.pt --tensorrt --triton REPOSITORY

The same checkpoint gives the same bytes every time, and nothing is written when a graph and the
numpy reference are apart. Needs the project installed (`pip install -e .`).
"""

import argparse
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from export.assembly.build import Made, Maker
from export.assembly.describe import Label, Package, pack
from export.assembly.variants import (
    NO_DECODE,
    STEPS,
    Request,
    parse_decode,
    parse_precisions,
    variants,
)
from export.build_engine import build_for
from export.checks.examples import load as load_examples
from export.gpt2.huggingface import FOREIGN_LICENSE, load_gpt2
from export.gpu.engine_shapes import PlanOptions
from export.gpu.lost_plans import lost, plans_in
from export.network.choose import AUTO, NAMES
from export.precisions.table import WORDS
from export.triton_repository import check as check_model
from export.triton_repository import triton_repository
from luminanet.artifact.directory import Artifact, check, write
from luminanet.artifact.folders import check_writable, follow
from luminanet.artifact.manifest import Family, GraphEntry, Precision, Role, Runtime
from luminanet.errors import ArtifactError, MissingExtraError, finish
from luminanet.finite import check_finite, weights
from luminanet.gpt2 import Gpt2Net

if TYPE_CHECKING:
    from training.checkpoint import Checkpoint

CHECKPOINT = "ckpt.pt"
DECODING = {"steps": 1}
"""A plan of a GPT-2 takes one token of every row at a time."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status (luminanet/errors.py)."""
    arguments = _parser().parse_args(argv)
    return finish(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    checkpoint: Path = arguments.checkpoint
    if (checkpoint / CHECKPOINT).is_file():
        checkpoint = checkpoint / CHECKPOINT
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent
    out = None if arguments.dry_run else arguments.out or folder / "artifact"
    triton = None if arguments.dry_run else arguments.triton
    before = plans_in(out) if out else {}
    freeze(
        checkpoint,
        out,
        arguments.form,
        parse_precisions(arguments.precision),
        arguments.examples,
        arguments.tensorrt,
        parse_decode(arguments.decode),
        triton,
    )
    if not out:
        return
    try:
        if arguments.tensorrt:
            _build_plans(out)
    finally:
        if line := lost(before, out):
            print(f"plans       {line}")
    for model in triton_repository(out, triton) if triton else ():
        print(f"triton      {model}")


def freeze(
    path: Path,
    out: Path | None,
    form: str = AUTO,
    precisions: tuple[Precision, ...] = (Precision.FP32,),
    examples: Path | None = None,
    tensorrt: bool = False,
    decode: tuple[int, ...] = STEPS,
    triton: Path | None = None,
) -> Package:
    """All arrows in order, with progress on stdout; `out` None writes nothing.

    `form` is one of export.network.choose.NAMES; a GPT-2 has one form only. `examples` is a file
    that export/checks/examples.py describes. `tensorrt` makes graphs that TensorRT reads, no plans.
    `decode` are the tokens that a call of the graphs that decode text draws; none leaves them out.
    `triton` is a model repository that is asked whether it can be written, and not written.

    Raises a LuminaNetError: CheckpointError, DataError, ExportError, VerificationError,
    ArtifactError, this one before any work is done when it is `out` that cannot be written.
    """
    if out:
        _check(out, path, examples)
    if triton:
        check_writable(triton)
    with _step(f"load {path}"):
        checkpoint = _load(path)
        if triton:
            check_model(triton, checkpoint.name)
        given = load_examples(examples, checkpoint.net) if examples else None
    for_tensorrt = tensorrt and isinstance(checkpoint.net, Gpt2Net)
    request = Request(form, precisions, given, for_tensorrt, decode)
    with _step("choose a form"):
        wanted, maker = variants(checkpoint.net, request), Maker(checkpoint.net, given)
    if given:
        with _step(f"ask the numpy reference about {len(given.inputs):,} examples"):
            maker.answer()
    made = []
    for variant in wanted:
        with _step(f"unroll and verify {variant.file}"):
            made.append(maker.make(variant))
    with _step("pack"):
        label = _label(checkpoint, path, _options(request, examples))
        package = pack(checkpoint.net, [graph for graph, _ in made], label)
    if out:
        with _step(f"write {out}"):
            write(out, package.manifest, package.files)
    print(_report(package, made, out))
    return package


def _check(out: Path, *read: Path | None) -> None:
    """Raises ArtifactError when `out` cannot be written, or would replace what is read."""
    for path in filter(None, read):
        if follow(path).is_relative_to(follow(out)):
            raise ArtifactError(
                f"{path} is in {out}, and would be replaced with it: choose another --out"
            )
    check(out)


def _load(path: Path) -> "Checkpoint":
    try:
        from training.checkpoint import Checkpoint, load
    except ImportError as error:
        raise MissingExtraError("torch", "export") from error
    if path.is_dir():
        found = load_gpt2(path)
        check_finite(weights(found.net), path)
        return Checkpoint(found.name, found.net, found.tokenizer)
    return load(path)


def _build_plans(out: Path) -> None:
    """A plan for every graph that TensorRT reads."""
    described = Artifact.open(out).manifest
    options = PlanOptions(sizes=DECODING if described.family is Family.GPT2 else {})
    for file, entry in described.graphs.items():
        if entry.role is Role.LOGITS and entry.runtime is not Runtime.CPU:
            build_for(out, options, file)


def _options(request: Request, examples: Path | None) -> str:
    """The options that decide about the bytes, as words of the command line; paths are left out."""
    asked = [word for word, found in WORDS.items() if set(found) <= set(request.precisions)]
    words = [f"--form {request.form}"] if request.form != AUTO else []
    words += [f"--precision {','.join(asked)}"] if len(asked) > 1 else []
    words += ["--tensorrt"] if request.tensorrt else []
    if request.decode != STEPS:
        words.append(f"--decode {','.join(map(str, request.decode)) or NO_DECODE}")
    words += [f"--examples {shlex.quote(examples.name)}"] if examples else []
    return "".join(f" {word}" for word in words)


def _label(checkpoint: "Checkpoint", path: Path, options: str) -> Label:
    foreign = path.is_dir()
    source = checkpoint.name if foreign else "ckpt.pt"
    commands = [checkpoint.command, f"python export/freeze.py {source}{options}"]
    return Label(
        name=checkpoint.name,
        tokenizer=checkpoint.tokenizer,
        classes=checkpoint.labels,
        figures=checkpoint.figures,
        command=" && ".join(filter(None, commands)),
        license=FOREIGN_LICENSE if foreign else "Apache-2.0",
    )


def _report(package: Package, made: Sequence[Made], out: Path | None) -> str:
    described = package.manifest
    rows = [
        ("name", described.name),
        ("network", described.summary),
        ("parameters", f"{described.parameters:,}"),
        ("MACs", f"{described.macs:,}"),
        ("artifact", str(out) if out else "not written (--dry-run); it would hold"),
    ]
    errors = {graph.file: error for graph, error in made}
    for file, data in package.files.items():
        rows.append(("", f"{file:<26}{len(data):>13,} bytes"))
        if entry := described.graphs.get(file):
            rows += [("", f"  {line}") for line in _told(entry, errors[file])]
    return "\n".join(f"{label:<12}{text}" for label, text in rows)


def _told(entry: GraphEntry, error: float) -> Iterator[str]:
    batches = f", from batch {entry.from_batch}" if entry.from_batch > 1 else ""
    yield f"{entry.precision}, form {entry.form}, {entry.nodes} nodes{batches}: {entry.reason}"
    yield f"{error:.1e} from the numpy reference, {entry.verified_within:g} is allowed"
    if entry.examples:
        yield ", ".join(f"{name} {value:g}" for name, value in entry.examples.items())


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
    add(
        "checkpoint",
        type=Path,
        help="ckpt.pt, written by `python -m training.train`, or a GPT-2 folder of Hugging Face",
    )
    add("--out", type=Path, help="folder of the artifact (default: artifact/ beside ckpt.pt)")
    add("--form", choices=NAMES, default=AUTO, help="form of the graphs (default: auto)")
    add(
        "--precision",
        default="fp32",
        metavar="LIST",
        help=f"graphs to add to fp32, with commas: {', '.join(WORDS)} (default: fp32 alone)",
    )
    add(
        "--examples",
        type=Path,
        metavar="FILE",
        help="real inputs and answers that assess and calibrate (examples.py says how)",
    )
    add(
        "--decode",
        default=",".join(map(str, STEPS)),
        metavar="K[,K...]",
        help="text: add graphs with the sampler inside, which the server needs. A GPT-2 gets one "
        "for every number K of tokens a call draws; a LuminaNet gets one that draws any number, "
        f"whatever K. {NO_DECODE}: leave them out (default: %(default)s)",
    )
    add("--dry-run", action="store_true", help="verify, and print what would be written")
    add("--tensorrt", action="store_true", help="build plans too (export/build_engine.py)")
    add("--triton", type=Path, metavar="DIR", help="write a Triton model repository too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
