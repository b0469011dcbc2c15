"""The type language of widths: layouts of dimensions, their unification, and the index maps that follow from them.

In: sizes and constraints between dimensions. Out: layouts in terms of free widths, why each must stay, and for each
index of a grown dimension the old one that it copies. Knows no operator, no module and no torch.fx.
"""
