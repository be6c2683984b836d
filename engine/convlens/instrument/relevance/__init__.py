"""Layer-wise relevance propagation on the PyTorch graph: rules a layer, and the way through a graph."""
