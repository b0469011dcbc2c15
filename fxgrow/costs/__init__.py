"""What a model costs: FLOPs by call, by module or in all.

In: a width graph with a size for each width, or a module tree with a graph. Out: FLOPs. The first needs no run, so that
sizes can be tried before there is a student.
"""
