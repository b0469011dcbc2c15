"""The plan as pure data, with JSON both ways.

In: what the solver and the depth stage decided. Out: per width the old and the new size and the mapping of channels,
per tensor its layouts, roles and the method, per graph the literals that change. Holds no weights, graphs or modules.
"""
