"""The corpus: test files built from packages that anyone can install, see ``scripts/corpus``.

A group is a module with ``items()``. Groups import only what their own environment holds, never the
engine, so that they run where PyTorch's or Keras' exporters live.
"""
