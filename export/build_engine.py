"""ModelProto -> TensorRT plan, for the machine that will serve it.

    python -m export.build_engine ARTIFACT [--profile 1:64:1024]... [--module tensorrt_rtx]

Writes model.plan and model.plan.json into the artifact's folder (tensorrt_plan.py), and keeps the
builder's timings in tensorrt.timing beside that folder for the next build. The network is strongly
typed: fp16, bf16 and int8 (QDQ) come from the dtypes of the ONNX graph. `tensorrt` builds for the
GPU of this machine; `tensorrt_rtx` also builds where there is none, for GPUs named with
--capability (by default all of RTX_TARGETS), and compiles the rest where the plan runs.
"""

import argparse
import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from export.gpu.engine_process import run
from export.gpu.engine_shapes import LIMIT_S, PlanOptions, Shapes, shapes_of
from luminanet.artifact.directory import Artifact
from luminanet.artifact.gpu import Gpu, find_gpu
from luminanet.artifact.manifest import MODEL, FileEntry, Runtime
from luminanet.artifact.tensorrt_plan import (
    MODULES,
    PLAN,
    PlanInfo,
    Profile,
    beside,
    installed_version,
    open_plan,
    read_plan,
)
from luminanet.errors import (
    ArtifactError,
    ConfigError,
    ExportError,
    MissingExtraError,
    finish,
)

RTX = "tensorrt_rtx"
RTX_TARGETS = ("8.0", "8.6", "8.9", "12.0")
TIMING = "tensorrt.timing"


def build_plan(
    model: bytes,
    out: Path,
    options: PlanOptions | None = None,
    timing: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> PlanInfo:
    """Builds the plan `out` and its JSON from the bytes of an ONNX file, in another process.

    A plan that is there already and was built from the same for the same is kept. `timing` is
    the builder's timing cache (default: beside `out`). Raises ExportError, MissingExtraError.
    """
    options = options or PlanOptions()
    shapes = shapes_of(model, options)
    module, version, capabilities = _target(options, find_gpu())
    info = PlanInfo(
        onnx_sha256=hashlib.sha256(model).hexdigest(),
        module=module,
        version=version,
        capabilities=capabilities,
        profiles=options.profiles,
        sizes=dict(options.sizes),
        plan=FileEntry("", 0),
        command=options.words(),
        model=f"{out.stem}.onnx",
    )
    found = _kept(out, info)
    return found or _build(
        model, out, info, shapes, timing or out.with_name(TIMING), options, progress
    )


def _kept(out: Path, info: PlanInfo) -> PlanInfo | None:
    """What is at `out` already, if it is whole and has the key of `info`."""
    try:
        found = open_plan(out)
        read_plan(out, found, info.onnx_sha256)
    except ArtifactError:
        return None
    return found if found.key == info.key else None


def _build(
    model: bytes,
    out: Path,
    info: PlanInfo,
    shapes: list[Shapes],
    timing: Path,
    options: PlanOptions,
    progress: Callable[[str], None],
) -> PlanInfo:
    """Files appear whole: they are made in a folder of their own and renamed into place."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        source, made, timings = (Path(folder) / name for name in (MODEL, PLAN, TIMING))
        source.write_bytes(model)
        if timing.is_file():
            shutil.copyfile(timing, timings)
        job = {"module": info.module, "model": str(source), "plan": str(made)}
        targets = info.capabilities if info.module == RTX else ()
        run(
            {**job, "timing": str(timings), "profiles": shapes, "capabilities": targets},
            options.limit_s,
            progress,
        )
        if not made.is_file():
            raise ExportError(f"the builder of {info.module} ended without a plan: try it again")
        data = made.read_bytes()
        entry = FileEntry(hashlib.sha256(data).hexdigest(), len(data))
        info = replace(info, plan=entry)
        told = Path(folder) / "plan.json"
        told.write_text(info.to_json(), "utf-8")
        made.replace(out)
        told.replace(beside(out))
        if timings.is_file():
            with suppress(OSError):  # beside a mount they cannot be kept, and the plan is whole
                timings.replace(timing)
    return info


def _target(options: PlanOptions, gpu: Gpu | None) -> tuple[str, str, tuple[str, ...]]:
    """Module, its version, and the compute capabilities to build for."""
    wanted = [options.module] if options.module else list(MODULES)
    versions = {module: installed_version(module) for module in wanted}
    module = next((name for name in wanted if versions[name]), None)
    if module is None:
        raise MissingExtraError(" or ".join(wanted), "gpu")
    version, capability = str(versions[module]), options.capability or (gpu and gpu.capability)
    if module == RTX:
        return module, version, (capability,) if capability else RTX_TARGETS
    if gpu is None or capability != gpu.capability:
        here = f"a {gpu.name} of {gpu.capability}" if gpu else "none"
        raise ExportError(
            f"{module} builds for the GPU of this machine, which is {here}: build the plan on the "
            "machine that will serve it, or install tensorrt-rtx and add --module tensorrt_rtx"
        )
    return module, version, (gpu.capability,)


def show_progress(text: str) -> None:
    """One line that changes on a terminal, lines elsewhere."""
    terminal = sys.stdout.isatty()
    print(
        f"\r{text[:78]:<78}" if terminal else f"  {text}",
        end="\r" if terminal else "\n",
        flush=True,
    )


def build_for(directory: Path, options: PlanOptions, model: str = MODEL) -> PlanInfo:
    """Builds the plan of one graph of an artifact, beside that graph, with progress on stdout.

    Raises ArtifactError, ExportError (also for a graph that only onnxruntime reads),
    MissingExtraError.
    """
    artifact = Artifact.open(directory)
    data = artifact.read(model)
    entry = artifact.manifest.graphs.get(model)
    if entry and entry.runtime is Runtime.CPU:
        raise ExportError(
            f"{directory / model} is made for onnxruntime on a CPU: freeze its checkpoint with "
            "--tensorrt (or --precision fp16), and build from another graph with --model"
        )
    out = directory / Path(model).with_suffix(Path(PLAN).suffix)
    begun_s = time.perf_counter()
    info = build_plan(data, out, options, directory.parent / TIMING, show_progress)
    print(
        f"{time.perf_counter() - begun_s:6.2f} s  {out}: {info.plan.bytes:,} bytes, "
        f"{info.module} {info.version}, compute capability {', '.join(info.capabilities)}, "
        f"batches {' '.join(map(str, info.profiles))}"
    )
    return info


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 2 with one line on stderr for what a user can mend."""
    arguments = _parser().parse_args(argv)

    def work() -> None:
        sizes = dict(map(_size, arguments.size))
        options = PlanOptions(
            profiles=tuple(map(Profile.parse, arguments.profile)) or (Profile(),),
            sizes=sizes,
            module=arguments.module,
            capability=arguments.capability,
            limit_s=arguments.limit_s,
        )
        build_for(arguments.artifact, options, arguments.model)

    return finish(work)


def _size(text: str) -> tuple[str, int]:
    name, _, size = text.partition("=")
    if not name or not (size.isascii() and size.isdigit()):
        raise ConfigError(f"--size {text!r} is not name=number, for example steps=1")
    return name, int(size)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="build_engine", description="Build a TensorRT plan from the graph of an artifact."
    )
    add = parser.add_argument
    add("artifact", type=Path, help="folder with manifest.json, written by export/freeze.py")
    add("--model", default=MODEL, help=f"which graph of the artifact (default {MODEL})")
    add(
        "--profile",
        action="append",
        default=[],
        help="batch sizes min:opt:max of a profile; may be repeated (default 1:64:1024)",
    )
    add("--size", action="append", default=[], help="name=number, a free dimension held fixed")
    add("--module", default="", help="tensorrt or tensorrt_rtx (default: the first installed)")
    add("--capability", default="", help="tensorrt_rtx: build for this one, such as 8.9")
    add("--limit-s", type=float, default=LIMIT_S, help="seconds it may take")
    return parser


if __name__ == "__main__":
    sys.exit(main())
