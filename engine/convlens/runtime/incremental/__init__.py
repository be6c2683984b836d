"""Changing a part of an input and computing only what that part can reach.

What a patch changes in a layer is a window; everything outside it is as it was. The graph is cut into parts,
each an operator that slides with all that works place by place behind it, and a part is run on its windows
alone, the clean activation around them. From an operator on that looks at everything, or from where windows
have grown so large that nothing is gained, the rest runs dense.
"""
