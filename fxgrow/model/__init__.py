"""The user's model as data: its tensors, module tree, layers, example inputs and source lines.

In: an `nn.Module`, which is never modified, and example inputs. Out: copies of its module tree that share or own their
tensors, its inputs by argument, and the class of the modules that fxgrow returns. Knows no widths.
"""
