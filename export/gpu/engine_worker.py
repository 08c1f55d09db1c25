"""The child process in which TensorRT's builder runs, because it can end its process.

Started by engine_process.py as a script, with one argument: a JSON file that holds a job.
    module         Python module with TensorRT's interface
    model          path of the ONNX file to read
    plan           path of the plan to write
    timing         path of the timing cache, read when it is there and written again
    profiles       for each profile: input -> shapes [min, opt, max]
    capabilities   compute capabilities to build for; none: the GPU of this machine
Writes one JSON object per line to stdout: {"progress": text} while it works, {"error": text} when
it refuses. Imports nothing of this project: TensorRT and the standard library only.
"""

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class RefusedError(Exception):
    """What TensorRT says against a graph or a job."""


def main(path: str) -> int:
    job = json.loads(Path(path).read_text("utf-8"))
    try:
        build(importlib.import_module(job["module"]), job)
    except RefusedError as error:
        say(error=str(error))
        return 1
    return 0


def build(trt: Any, job: Mapping[str, Any]) -> None:
    """Graph -> plan and timing cache, as files. Raises RefusedError."""
    logger = _logger(trt)
    builder = trt.Builder(logger)
    network, parser = _parse(trt, builder, logger, Path(job["model"]).read_bytes())
    config = builder.create_builder_config()
    monitor = _monitor(trt)
    if monitor is not None:
        config.progress_monitor = monitor
    for shapes in job["profiles"]:
        profile = builder.create_optimization_profile()
        for name, (low, opt, high) in shapes.items():
            profile.set_shape(name, low, opt, high)
        if config.add_optimization_profile(profile) < 0:
            raise RefusedError(f"the profile {shapes} does not fit the graph")
    _target(trt, config, job["capabilities"])
    keeps_timings = job["module"] == "tensorrt"  # tensorrt_rtx times its kernels where they run
    if keeps_timings:
        _load_timings(config, Path(job["timing"]))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise RefusedError("; ".join(logger.errors[-2:]) or "no reason given")
    Path(job["plan"]).write_bytes(plan)
    if keeps_timings:
        Path(job["timing"]).write_bytes(config.get_timing_cache().serialize())
    del parser  # it holds the weights until the network is built


def _parse(trt: Any, builder: Any, logger: Any, data: bytes) -> tuple[Any, Any]:
    """A strongly typed network: precision lives in the dtypes of the ONNX graph."""
    strongly = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if strongly is None else 1 << int(strongly))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(data):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        told = [
            f"{e.node_name()} ({e.node_operator()}): {e.desc().rstrip('.')}" for e in errors[:2]
        ]
        told += [f"and {len(errors) - 2} more"] if len(errors) > 2 else []
        raise RefusedError(
            f"it cannot read {'; '.join(told) or 'the graph'}. It reads standard operators and few "
            "of onnxruntime's own (com.microsoft): build from another graph with --model"
        )
    return network, parser


def _target(trt: Any, config: Any, capabilities: list[str]) -> None:
    """tensorrt_rtx can build for GPUs that are not there; tensorrt builds for the one that is."""
    if not capabilities:
        return
    known = trt.ComputeCapability.__members__
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        name = f"SM{capability.replace('.', '')}"
        if name not in known or not config.set_compute_capability(known[name], index):
            names = ", ".join(f"{n[2:-1]}.{n[-1]}" for n in known if n.startswith("SM"))
            raise RefusedError(
                f"it cannot build for compute capability {capability}, only for {names}: "
                "use a GPU of these, or --module tensorrt on the machine with the GPU"
            )


def _load_timings(config: Any, path: Path) -> None:
    """Continues the cache of an earlier build; starts anew when it is of another version or GPU."""
    data = path.read_bytes() if path.is_file() else b""
    if not config.set_timing_cache(config.create_timing_cache(data), ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _logger(trt: Any) -> Any:
    severe = (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)

    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps errors, and shows them and warnings on stderr."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in severe:
                self.errors.append(message)
            if severity in severe or severity == trt.ILogger.WARNING:
                print(message, file=sys.stderr, flush=True)

    return Logger()


def _monitor(trt: Any) -> Any:
    """Tells the outer phases as they begin; None where this TensorRT does not report progress."""
    if not hasattr(trt, "IProgressMonitor"):
        return None

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.depth: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self.depth[phase] = self.depth.get(parent, -1) + 1 if parent else 0
            if self.depth[phase] < 3:
                say(progress=f"{phase}, {steps} steps")

        def step_complete(self, _phase: str, _step: int) -> bool:
            return True

        def phase_finish(self, _phase: str) -> None:
            pass

    return Monitor()


def say(**event: str) -> None:
    """One line, written at once: phases may come from several threads."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
