"""What connects ConvLens with the world: where models and images come from, where results go."""
