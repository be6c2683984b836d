"""DeepDream: what a layer sees in a photo, made stronger."""
