"""Plan and model to student: new tensors, edited literals and attributes, inserted layers.

In: a traced model and a plan. Out: the student, in the form that the plan names, with the teacher's `state_dict` keys.
The teacher's tensors are read and never written. Follows layouts and roles, and names no operator.
"""
