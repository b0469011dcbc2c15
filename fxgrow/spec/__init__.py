"""What a user may ask for: the request classes, every form of a specification, and pattern matching.

In: a number, a mapping, requests, a list of these, or JSON. Out: a tuple of requests, and the names of parameters that
a pattern means. Knows names, but neither widths nor weights.
"""
