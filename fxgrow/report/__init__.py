"""Numeric comparison of teacher and student, and a summary by layer.

In: models, width graphs and plans. Out: a `Report` and a `Summary`, as data with a text and a notebook form.
Reads the results of the other stages and changes nothing.
"""
