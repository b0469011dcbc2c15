"""`WidthGraph` and requests to `Plan`: new widths that meet every constraint.

In: the width graph and what was asked for. Out: a plan with new widths, channel mappings, and what stays for which
reason. Decides sizes only; it builds no tensor, and it does not know whether the student's code accepts the sizes.
"""
