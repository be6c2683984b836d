"""Gradients at many points: along a way, or around an input."""
