"""Whether a map is true: orders, noise, random weights, and the verdict in words."""
