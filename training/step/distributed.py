"""Several processes as one run: `torchrun --nproc-per-node 2 -m training.train ...`.

Every rank takes its rows of each batch and gradients are averaged, so a step is the step that one
process would make on the whole batch. Decisions are made once: rank 0 evolves, keeps time and
writes files; the others follow.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from luminanet.errors import ConfigError
from training.data.batches import Batch


@dataclass(frozen=True, slots=True)
class World:
    """This process among all of the run; alone by default."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def share(self, batch: Batch) -> Batch:
        """Every size-th row, from row `rank` on."""
        if self.size == 1:
            return batch
        rows = slice(self.rank, None, self.size)
        return Batch(batch.inputs[rows], batch.targets[rows])

    def average_gradients(self, model: nn.Module) -> None:
        if self.size == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, mean in zip(gradients, _like(flat / self.size, gradients), strict=True):
            gradient.copy_(mean)

    def agree(self, numbers: Sequence[float], device: torch.device) -> Sequence[float]:
        """The largest that anyone has, of each."""
        if self.size == 1:
            return numbers
        largest = torch.tensor(numbers, dtype=torch.float64, device=device)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return [float(number) for number in largest]

    def from_first(self, body: Any) -> Any:
        """What rank 0 passed here."""
        if self.size == 1:
            return body
        box = [body if self.is_first else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]


def _like(flat: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def join(batch: int, device: torch.device) -> World:
    """The world that torchrun's environment describes; raises ConfigError when the batch cannot
    be divided among it."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if batch % size:
        raise ConfigError(f"a batch of {batch} cannot be divided among {size} processes")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return World(dist.get_rank(), size)


def leave(world: World) -> None:
    if world.size > 1:
        dist.destroy_process_group()


def local_device(name: str) -> torch.device:
    """`cuda` is the GPU of this process on its machine. Raises ConfigError without one."""
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"there is no GPU that torch can use: leave out --device {name}")
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device(name)
