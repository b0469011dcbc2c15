"""What every stage uses and no stage owns: generators by name, isolation of global state, structures, tables.

In: plain Python values and tensors. Out: the same. Nothing here knows modules, graphs, widths or plans, so that any
other folder may import it.
"""
