"""Inputs shifted, scaled and turned, and what that does to features and decisions."""
