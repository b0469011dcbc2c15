"""`Traced` to `WidthGraph`: which dimensions are one width, which can grow, and why the others cannot.

In: a traced model. Out: width groups with their members, ties and pins, the layout of every tensor and activation, and
the sizes that code and modules state. Runs the graphs under the rules of `ops`, and names no operator itself.
"""
