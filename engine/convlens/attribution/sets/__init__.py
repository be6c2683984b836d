"""Images as a set: a background to hold one against, and parts marked in several."""
