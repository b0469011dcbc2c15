"""Numeric comparison of teacher and student, a summary by layer, and FLOPs.

In: models, width graphs and plans. Out: a `Report`, a `Summary` and FLOPs, as data with a text and a notebook form.
Reads the results of the other stages and changes nothing.
"""
