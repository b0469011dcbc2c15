"""Model to `Traced`: FX graphs that are compared with the model.

In: a model and example inputs. Out: a module tree on meta with a graph for each mode, the model's own recorded calls,
and notes on what stayed a call. A graph whose digests differ from the model's is never returned. Knows no widths.
"""
