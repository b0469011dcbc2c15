"""Where to grow: what each width would gain by new channels, measured on batches with a loss.

In: a model, batches, a loss; the widths that `api` finds. Out: a number for each width that can grow, and for each
other the reason why there is none. `layers` says which layers make and read a width, `recorded` runs a copy of the
model and tells which call reads what another made, `positions` brings features of one layer to the positions of
another, `gathered` adds up over batches, and `measures` makes numbers of the sums, one function per kind. `places`
scores new layers and blocks, in a student that has them all.
"""

from .result import Place, Score, Scores
from .where import scores

__all__ = ["Place", "Score", "Scores", "scores"]
