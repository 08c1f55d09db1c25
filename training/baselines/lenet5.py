"""LeNet-5: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document
Recognition", Proceedings of the IEEE 86 (11), 1998 (no arXiv id).

Its form for 32x32 colour images, 62,006 parameters: three input channels, every map of the
second convolution sees all of the first. ReLU, max pooling and a linear output stand for the
paper's tanh, trained averages and radial basis functions: the stronger form, so that a margin over
it is not won against tanh.
"""

from torch import nn


class LeNet5(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 6, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, 10),
        )
