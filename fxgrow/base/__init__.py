"""What every stage uses: generators, isolation of global state, progress, nested structures, torch's private names.

In: plain Python values and tensors. Out: the same. Knows no modules, graphs, widths or plans, so that any other
folder may import it.
"""
