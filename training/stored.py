"""What is stored of a run's configuration (config.py): one flat dict of all settings of all runs.

The form is that of the first version, so that runs and results of all versions are found again.
"""

from collections.abc import Mapping
from typing import Any

from luminanet.errors import ConfigError
from training.precision import BF16

STORED: Mapping[str, Any] = {
    **dict.fromkeys(("preset", "data_set", "model", "steps", "batch", "learning_rate")),
    "seed": 0,
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "beta2": 0.99,
    "warmup": 0.05,
    "final_rate": 0.0,
    "ema": 0.998,
    "gate_rate": 5.0,
    "clip": 0.0,
    "dropout": 0.0,
    "habit_dropout": 0.0,
    "mixup": 0.0,
    "smoothing": 0.0,
    "teacher": "",
    "distill": 0.6,
    "whiten": 0.0,
    "augment": True,
    "context": 256,
    "vocab_size": 4096,
    "width": 128,
    "layers": 1,
    "head_width": 32,
    "deviation": 0.02,
    "channel": 64,
    "seeding": "",
    "shared_gates": False,
    "evolution": None,
    "held_out": 0.04,
    "check_every": 250,
    "compile": False,
    "precision": BF16,
    "seconds": 0.0,
    "split_seed": None,
}
"""All settings in the order in which they are stored, with what stands there for a run that does
not have them, or that was begun before they came."""
STORED_EVOLUTION: Mapping[str, Any] = {
    "policy": "gradient",
    "start": 0.02,
    "stop": 0.4,
    "events": 24,
    "building": 24,
    "max_parameters": 1150000,
    "max_macs": 0,
    "max_clusters": 0,
    "max_connections": 0,
    "max_level": 2,
    "max_width": 128,
    "neurons": 32,
    "connections": 12,
    "kinds": ["feedforward", "feedback", "recurrent"],
    "grown": 3,
    "pruned": 0.05,
    "price": 0.05,
    "cost": "macs",
    "max_latency_us": 0.0,
    "fields": 0,
    "buses": False,
    "selected": 0,
}
FIXED = ("ema", "gate_rate")
"""Once settings, now constants (step/trainer.py), and still stored."""
FIXED_EVOLUTION = ("price", "max_latency_us")
"""The same of evolution (evolution/evolve.py); a limit of 0 is none."""


def completed(saved: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as an earlier version stored it, with the settings that came since. Raises
    ConfigError where it has another value of what is a constant now."""
    evolution = saved.get("evolution")
    if evolution is not None:
        _check(evolution, STORED_EVOLUTION, FIXED_EVOLUTION)
        evolution = {**STORED_EVOLUTION, **evolution}
    _check(saved, STORED, FIXED)
    return {**STORED, **saved, "evolution": evolution}


def _check(found: Mapping[str, Any], stored: Mapping[str, Any], fixed: tuple[str, ...]) -> None:
    for name in fixed:
        if (was := found.get(name, stored[name])) != stored[name]:
            raise ConfigError(
                f"it is of a run with {name} {was}, and in this version that is always "
                f"{stored[name]}: go on with the version that began it, or begin again elsewhere"
            )


def filled(own: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are stored, with those of `own`."""
    return {name: own.get(name, value) for name, value in stored.items()}
