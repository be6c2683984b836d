"""Pictures that a model makes: one loop of optimisation, and the pieces that it is put together from.

A picture is sought that drives an objective up. What is optimised (:mod:`parametrise`), from where
(:mod:`starts`), what keeps it natural (:mod:`regularise`, :mod:`robust`) and in which sizes
(:mod:`schedule`) are pieces of their own; :mod:`loop` knows none of them by name.
"""
