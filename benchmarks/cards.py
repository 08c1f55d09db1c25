"""Manifest and measured quality -> the model card (README.md) beside a shipped checkpoint."""

from benchmarks.quality import Quality
from luminanet.artifact.manifest import Family, Manifest, Task
from training.presets import PRESETS

DATA = {
    Task.CLASSIFICATION: ("uoft-cs/cifar10", "CIFAR-10 test split, 10,000 images"),
    Task.GENERATION: ("roneneldan/TinyStories", "TinyStories, validation split of the subset"),
}
TUNING = {
    Task.CLASSIFICATION: "",
    Task.GENERATION: """Both text networks were tuned in short runs, the baseline in more of
them than LuminaNet (benchmarks/tinystories/tuning.md).
""",
}
USE = {
    Task.CLASSIFICATION: """Says which of ten kinds of thing a 32x32 picture shows. It knows only
these ten and always names one; use it to study small networks, not to decide anything.""",
    Task.GENERATION: """Continues simple children's stories. It knows nothing but such stories, and
not always those: names change, plots wander. Use it to study small networks, not for facts.""",
}
NOTE = {
    Task.CLASSIFICATION: """Trained on the training split less the held-out share, which judged its
mutations. The images of our copy are JPEG re-encodings of the originals.""",
    Task.GENERATION: """Trained on a subset of 16,719 stories (under 1 % of the data set), less the
held-out share; perplexity is per token of a BPE of 4,096 tokens, so compare bits per byte.""",
}
TAUGHT = {
    Task.CLASSIFICATION: """Beside the labels it learned the answers of a small ResNet-18
(distillation, which the paper does not use); train that first with
`python -m training.train --preset resnet18-1m --steps 1200 --mixup 0`.
""",
    Task.GENERATION: """Beside the stories it learned the answers of a GPT-2 of two layers
(distillation, which the paper does not use), as LuminaNet and its baseline both do; train that
first with `python -m training.train --preset gpt2-teacher`.
""",
}


def card(manifest: Manifest, quality: Quality, source: str) -> str:
    """Markdown with the front matter of the Hugging Face hub."""
    data_set, split = DATA[manifest.task]
    what = "LuminaNet" if manifest.family is Family.LUMINANET else "The baseline of LuminaNet"
    train, freeze = manifest.command.split(" && ")
    return f"""---
license: {manifest.license.lower()}
pipeline_tag: {manifest.task}
datasets: [{data_set}]
---

# {manifest.name}

{what}: {manifest.summary}.

{USE[manifest.task]}

## Figures

{_figures(manifest.task, quality)}
Measured through the frozen ONNX file on the {split}; {manifest.macs:,} multiply-accumulates per
{"image" if manifest.task is Task.CLASSIFICATION else "token"}.
{source}
## How it was made

```sh
{train}
{freeze}
```

{TAUGHT[manifest.task] if _has_teacher(train) else ""}{NOTE[manifest.task]} One seed.
{TUNING[manifest.task]}Training took {(manifest.figures or {})["training_seconds"]:.0f} s
on one thread of a shared CPU.
"""


def _has_teacher(train: str) -> bool:
    """Whether a training command learns from a teacher."""
    words = train.split()
    preset = words[words.index("--preset") + 1] if "--preset" in words else ""
    return "--teacher" in words or (preset in PRESETS and bool(PRESETS[preset].teacher))


def _figures(task: Task, quality: Quality) -> str:
    if task is Task.CLASSIFICATION:
        rows = {"top-1": f"{quality.top1:.2%}", "top-5": f"{quality.top5:.2%}"}
    else:
        rows = {
            "perplexity per token": f"{quality.perplexity:.2f}",
            "bits per byte": f"{quality.bits_per_byte:.3f}",
            "top-1": f"{quality.top1:.2%}",
        }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| figure | value |", "| --- | --- |", *lines, ""])
