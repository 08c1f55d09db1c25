"""Mixed precision: what products are computed in; sums, losses and weights stay float32.

bfloat16 halves the time of a step where the hardware multiplies it (AVX512_BF16, AMX, GPUs), and
makes it 7 to 17 times longer where it is emulated (benchmarks/training_precision.md).
"""

import torch

from luminanet.machine import cpu

AUTO, FP32, BF16 = "auto", "fp32", "bf16"
PRECISIONS = (AUTO, FP32, BF16)


def native(device: torch.device) -> str:
    """The faster of fp32 and bf16 on a device: bf16 only where its hardware computes it."""
    if device.type == "cuda":
        has = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        has = device.type == "cpu" and cpu().has_bf16
    return BF16 if has else FP32


def products(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """A context in which products are computed in float32 or bfloat16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype is torch.bfloat16)


def dtype_of(device: torch.device, precision: str) -> torch.dtype:
    """Of one of PRECISIONS. To be asked once: `auto` reads what the CPU has."""
    chosen = native(device) if precision == AUTO else precision
    return torch.bfloat16 if chosen == BF16 else torch.float32
