"""AlexNet: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks", NeurIPS 2012; its one-column widths from Krizhevsky, 2014, arXiv 1404.5997.

The form that is common on CIFAR, 2.47 M parameters (77.2 % top-1 in bearpaw/pytorch-classification
with SGD): the five convolutions with their strides, 2x2 pooling so that 32x32 pixels end in one,
and one linear layer for the three wide ones, whose dropout goes with them.
"""

from torch import nn


class AlexNet(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 64, 11, stride=4, padding=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(256, 10),
        )
