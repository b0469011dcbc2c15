"""The same plan on other state: what an optimizer has learned about the teacher's parameters, carried to the student's.

In: a plan, the teacher, the student, and an optimizer of the teacher. Out: the same optimizer, with the student's
parameters in its groups and the state grown. Only the plan says how: no gradient and no second tensor is needed. Knows
no operator and no graph. `register` adds an optimizer from outside the package.
"""

from .moments import COPIED, FIRST, SECOND, Moment
from .rules import register

__all__ = ["COPIED", "FIRST", "SECOND", "Moment", "register"]
