"""What every stage uses: named generators, isolation of global state, nested structures, tables, torch's private names.

In: plain Python values and tensors. Out: the same. Knows no modules, graphs, widths or plans, so that any other
folder may import it.
"""
