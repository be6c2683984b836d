"""A recording as a map: projections of its vectors, what is known of each point, and the page to move in."""
