"""The experiment of a public PyTorch notebook on Net2Net, with fxgrow: a teacher, two students, two rivals.

The notebook widens and deepens this net by hand, pair of layers by pair of layers. Its "function-preserving" wider
student falls from the teacher's 98.45 % to below 94.8 % in its first epoch and needs eight to come back; here a
student predicts before its first epoch exactly what its teacher predicts, image by image, or the script fails.

    python examples/net2net_pytorch_notebook.py [--data mnist|glyphs|digits] [--seeds 3] [--quick]

Students grow with `fxgrow.grow` alone. Dropout is as in the notebook, a module after the second convolution and
functional before the classifier: fxgrow takes both over, and they drop channels of the student as they dropped those
of the teacher. Every run has an optimizer of its own, without the state of an earlier one.
"""

import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fxgrow
from experiment.command import main
from experiment.runs import Experiment, Run


class Net(nn.Module):
    """Two convolutions and two linear layers, with dropout behind the second and the third."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, 5)
        self.conv2 = nn.Conv2d(10, 20, 5)
        self.drop = nn.Dropout2d()
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logarithms of probabilities (N, 10) of images (N, 1, 28, 28)."""
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.drop(self.conv2(x)), 2))
        x = F.relu(self.fc1(torch.flatten(x, 1)))  # (N, 20 * 4 * 4)
        return F.log_softmax(self.fc2(F.dropout(x, training=self.training)), dim=1)


WIDER = [fxgrow.Widen("conv1", 15), fxgrow.Widen("conv2", 30)]
DEEPER = [fxgrow.Deepen("conv1"), fxgrow.Deepen("conv2")]  # 5x5 identities behind the ReLUs, with a ReLU of their own

RATE, MOMENTUM = 0.01, 0.5
SCRATCH_WIDER, SCRATCH_DEEPER = "wider, from scratch", "wider + deeper, from scratch"
EXPERIMENT = Experiment(
    name="net2net_pytorch_notebook",
    net=Net,
    batch=64,
    loss=F.nll_loss,
    runs=(
        Run("teacher", 10, RATE, MOMENTUM),
        Run("wider student", 10, RATE, MOMENTUM, "teacher", WIDER, rival=SCRATCH_WIDER),
        Run("wider + deeper student", 10, RATE, MOMENTUM, "wider student", DEEPER, rival=SCRATCH_DEEPER),
        Run(SCRATCH_WIDER, 20, RATE, MOMENTUM, spec=WIDER, rival=SCRATCH_WIDER),
        Run(SCRATCH_DEEPER, 30, RATE, MOMENTUM, spec=WIDER + DEEPER, rival=SCRATCH_DEEPER),
    ),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
