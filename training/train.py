"""Command line: `python -m training.train --preset cifar10 --data DIR` writes ckpt.pt.

What it is compared with trains by the same command: `--preset gpt2`, `lenet5`, `resnet18`, ...
On several GPUs or machines: `torchrun --nproc-per-node 8 -m training.train --device cuda ...`
"""

import argparse
import errno
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from luminanet.errors import ConfigError, finish, told
from training.config import (
    EvolutionConfig,
    ImageBaseline,
    LuminaNet,
    TextConfig,
    TrainConfig,
)
from training.data.datasets import ENVIRONMENT, resolve
from training.data.tables import Columns
from training.evolution.policies import POLICIES
from training.evolution.selection import ORDERS
from training.precision import PRECISIONS
from training.presets import PRESETS, listing
from training.run.run import CHECKPOINT, Run, saved_in, settled
from training.run.task import prepare
from training.step.distributed import World, join, leave, local_device

OPTIONS = {
    "steps": int,
    "seconds": float,
    "batch": int,
    "seed": int,
    "learning_rate": float,
    "optimizer": str,
    "weight_decay": float,
    "beta2": float,
    "warmup": float,
    "final_rate": float,
    "dropout": float,
    "habit_dropout": float,
    "mixup": float,
    "smoothing": float,
    "whiten": float,
    "teacher": str,
    "distill": float,
    "context": int,
    "vocab_size": int,
    "width": int,
    "layers": int,
    "head_width": int,
    "deviation": float,
    "channel": int,
    "check_every": int,
}


COLUMNS = ("--image-column", "--label-column", "--text-column")
LOCAL = ("--data", "--out", "--tokenizer", "--threads", "--report", *COLUMNS)
"""Options that name what is of one machine only."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ListPresets(argparse.Action):
    """Ends the command as --help does, before anything is asked for that is required."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        _namespace: argparse.Namespace,
        _values: str | Sequence[object] | None,
        _option: str | None = None,
    ) -> None:
        print(listing())
        parser.exit()


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="python -m training.train", description=__doc__)
    p.add_argument("--list", action=ListPresets, nargs=0, help="print all presets and end")
    p.add_argument(
        "--preset", required=True, choices=sorted(PRESETS), help="which (--list tells what each is)"
    )
    p.add_argument(
        "--data",
        help=f"folder of Parquet files; default {ENVIRONMENT}, else the Hugging Face hub",
    )
    for name in COLUMNS:
        p.add_argument(name, metavar="NAME", help="column of --data that is called otherwise")
    p.add_argument("--out", type=Path, help="folder of the run (default runs/<preset>)")
    p.add_argument("--tokenizer", type=Path, help="tokenizer.json to use instead of training one")
    p.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    p.add_argument("--threads", type=int, help="CPU threads of torch")
    p.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of products; auto: bf16 where the hardware computes it, else fp32, and what a run "
        "began with where it resumes (python -m luminanet.machine says which)",
    )
    p.add_argument(
        "--evolution-events", type=int, help="how often the network changes itself; 0 for never"
    )
    p.add_argument(
        "--compile",
        action="store_true",
        default=None,
        help="compile the network once it has stopped changing",
    )
    p.add_argument("--no-augment", action="store_true", help="images as they are: no crops")
    policies = sorted({*POLICIES, *ORDERS})
    p.add_argument("--policy", choices=policies, help="who ranks what to change")
    for name, kind in OPTIONS.items():
        p.add_argument(f"--{name.replace('_', '-')}", type=kind, help="instead of the preset's")
    return p


def configure(arguments: argparse.Namespace) -> TrainConfig:
    """The preset with what the options change. Raises ConfigError, also for an option of a setting
    that its run does not have."""
    config = PRESETS[arguments.preset]
    given = {name: getattr(arguments, name) for name in (*OPTIONS, "precision", "compile")}
    given["augment"] = False if arguments.no_augment else None
    config = config.having(**{name: v for name, v in given.items() if v is not None})
    events, policy = arguments.evolution_events, arguments.policy
    if events is None and policy is None:
        return config
    if not isinstance(config.model, LuminaNet):
        name = config.model.name
        raise ConfigError(f"{name} does not evolve: leave out --evolution-events and --policy")
    if events is not None and events < 0:
        raise ConfigError("--evolution-events must not be negative")
    asked = {"events": events, "policy": policy}
    asked = {name: value for name, value in asked.items() if value is not None}
    evolution = replace(config.evolution or EvolutionConfig(), **asked)
    return config.having(evolution=evolution if evolution.events else None)


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    arguments = parser().parse_args(argv)
    arguments.out = arguments.out or Path("runs") / arguments.preset

    def system(error: OSError) -> str:
        return f"{told(error, arguments.out)}: {mend(error)}"

    return finish(lambda: _train(arguments, command_of(argv)), system)


def _train(arguments: argparse.Namespace, command: str) -> None:
    config = configure(arguments)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = local_device(arguments.device)
    world = join(config.batch, device)
    try:
        run = _begin(config, arguments, command, device, world)
        path = run.train()
    finally:
        leave(world)
    if not world.is_first:
        return
    score, is_text = run.score(), isinstance(config, TextConfig)
    measure = f"perplexity {score.perplexity:.3f}" if is_text else f"{score.accuracy:.2%}"
    print(f"{path}: held-out loss {score.loss:.4f}, {measure}")
    if not isinstance(config.model, ImageBaseline):
        print(f"next: python export/freeze.py {path.parent / CHECKPOINT}")


def _begin(
    config: TrainConfig,
    arguments: argparse.Namespace,
    command: str,
    device: torch.device,
    world: World,
) -> Run:
    """A run, or one that goes on; what was saved is read once, and not kept."""
    columns = Columns(arguments.image_column, arguments.label_column, arguments.text_column)
    folder, out = resolve(arguments.data), arguments.out
    saved = saved_in(out)
    config = settled(config, saved, device, world)
    task = prepare(config, folder, arguments.tokenizer, device, out, columns)
    run = Run(config, task, out, device, command, world, saved)
    if saved and world.is_first:
        print(f"resuming {out} at step {run.trainer.step}", file=sys.stderr)
    return run


def mend(error: OSError) -> str:
    if error.errno in FULL:
        return "make room there, or choose another --out, and run it again"
    return "choose another --out"


def command_of(argv: list[str], module: str = "training.train") -> str:
    """The command that does this again, without the folders of this machine."""
    kept, skip = list[str](), False
    for word in argv:
        local = word.split("=")[0] in LOCAL
        if not skip and not local:
            kept.append(word)
        skip = local and "=" not in word
    return shlex.join(["python", "-m", module, *kept])


if __name__ == "__main__":
    sys.exit(main())
