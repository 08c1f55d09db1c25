"""ResNet: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015,
arXiv 1512.03385.

ResNet-18 (Table 1) in the form that is common on CIFAR, 11.17 M parameters: a 3x3 stem without
stride and without pooling, since 32x32 pixels leave nothing to throw away; shortcuts that change
shape are 1x1 convolutions (option B). `width` is that of the first stage.
Shape legend: B batch, C channels, Y rows, X columns.
"""

import torch.nn.functional as F
from torch import Tensor, nn

STAGES = (1, 2, 4, 8)


class Residual(nn.Module):
    """Two 3x3 convolutions and the shortcut around them (figure 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x_BCYX: Tensor) -> Tensor:
        return F.relu(self.layers(x_BCYX) + self.shortcut(x_BCYX))


class ResNet18(nn.Sequential):
    def __init__(self, classes: int = 10, width: int = 64) -> None:
        stages: list[nn.Module] = []
        inputs = width
        for outputs in (width * times for times in STAGES):
            stride = 1 if outputs == width else 2
            stages += [Residual(inputs, outputs, stride), Residual(outputs, outputs, 1)]
            inputs = outputs
        super().__init__(
            nn.Conv2d(3, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            *stages,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(inputs, classes),
        )
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
