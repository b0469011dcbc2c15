"""New layers, cloned blocks and larger kernels: their positions, their initial weights, their insertion into a graph.

In: the width graph and requests for depth. Out: structural changes as data, and functions that apply them to a module
tree and its graphs. Before a block is cloned, the analysis of its skip connection is tested on random inputs.
"""
