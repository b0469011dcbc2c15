"""Acceptance of a plan on the meta device, before any number is computed.

In: a student on meta and its plan. Out: every place where its calls differ from what the layouts predict. The loop in
`refine` turns each into a constraint and plans again, so that what it returns has passed. Computes with no weights.
"""
