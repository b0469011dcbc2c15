"""New layers, cloned blocks and larger kernels: where they go, what they are at birth, how they enter a graph.

In: the width graph and requests for depth. Out: structural changes as data, and functions that carry them out on a tree
and its graphs. What an analysis takes for zero or for a skip connection is tried on random numbers first.
"""
