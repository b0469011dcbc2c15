"""One model turned into the shape of another: which tensors correspond, and the plan that makes the smaller the larger.

In: a small model, and a large one or the names and shapes of its tensors. Out: a plan whose student has exactly these,
or each difference that growth cannot bridge, with its reason. All growth goes through `api`; here is only what to ask
for. `names` pairs tensors by name and place, `sizes` solves for widths, `settings` compares what layers compute.
"""

from .planned import match

__all__ = ["match"]
