"""The experiment of a public Keras notebook on Net2Net, with fxgrow: a teacher, and students beside their baselines.

A wider student (conv1 and fc1 from 64 to 128) and a deeper one (a second conv2 and a second fc1), each made in two
ways: with random new weights, and so that it computes what the teacher computes. Before its first epoch a student of
the second kind predicts exactly what the teacher predicts, image by image, or the script fails.

    python examples/net2net_keras_notebook.py [--data mnist|glyphs|digits] [--seeds 3] [--quick]

Students grow with `fxgrow.grow` alone. What Keras does by default is said where it differs from torch: weights from
Glorot's uniform distribution, biases zero, batches of 32, and convolutions without an activation.
"""

import sys

import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from experiment.command import main
from experiment.runs import Experiment, Run


class Net(nn.Module):
    """Two convolutions, each with a pooling, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 3, padding=1)
        self.conv2 = nn.Conv2d(64, 64, 3, padding=1)
        self.fc1 = nn.Linear(64 * 7 * 7, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 10) of images (N, 1, 28, 28); the softmax is in the loss."""
        x = F.max_pool2d(self.conv1(x), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def glorot(layer: nn.Module) -> None:
    """Keras' defaults, in place."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


WIDER = [fxgrow.Widen("conv1", 128), fxgrow.Widen("fc1", 128)]
DEEPER = [fxgrow.Deepen("conv2", activation="none"), fxgrow.Deepen("fc1")]
RANDOM = [fxgrow.Deepen("conv2", kind="random", activation="none"), fxgrow.Deepen("fc1", kind="random")]

FAST, SLOW, MOMENTUM = 0.01, 0.001, 0.9
EXPERIMENT = Experiment(
    name="net2net_keras_notebook",
    net=Net,
    batch=32,
    draw=glorot,
    runs=(
        Run("teacher", 3, FAST, MOMENTUM),
        Run("wider, random pad", 3, SLOW, MOMENTUM, "teacher", WIDER, method="random_pad", exact=False),
        Run("wider, net2wider", 3, SLOW, MOMENTUM, "teacher", WIDER),
        Run("deeper, random init", 3, SLOW, MOMENTUM, "teacher", RANDOM, exact=False),
        Run("deeper, net2deeper", 3, SLOW, MOMENTUM, "teacher", DEEPER),
    ),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
