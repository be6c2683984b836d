"""Small changes that make a model answer something else: what for, how far, and by which attack.

Pictures are counted in whole levels, 0 to 255, as a file holds them; inputs of other kinds in their own
numbers.
"""
