"""Checkpoints grown file to file: no model is built, and no tensor is held as a whole.

In: a plan and the teacher's checkpoint. Out: the student's, with the bits that growing in memory gives. What the file
holds, under which names and where, is known from the plan (`outline`); then each tensor is made by blocks of rows, in
the place where it lies in the file. Knows no operator, no graph and no module of the user's.
"""
