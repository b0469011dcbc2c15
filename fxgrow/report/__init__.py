"""Numbers and tables for people: teacher against student on real inputs, a summary by layer, FLOPs.

In: models, width graphs and plans. Out: a `Report`, a `Summary` and costs, as data that prints itself. Reads what the
other stages made, and changes nothing.
"""
