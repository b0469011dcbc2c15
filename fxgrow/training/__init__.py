"""Growth in a training run: a schedule of growths, and callbacks of frameworks that follow one.

In: the user's loop, or a framework's, with its model and its optimizers. Out: the student in the model's place, with
the optimizers moved to it. All growth goes through `api.grow`; here is only when, and where the model is put. The files
of frameworks import them, so nothing else imports these files.
"""

from .schedule import GrowthSchedule
from .triggers import Epoch, Plateau, Step

__all__ = ["Epoch", "GrowthSchedule", "Plateau", "Step"]
