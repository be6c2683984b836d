"""Values without gradients: onnxruntime sessions over the same graph, any value exposed."""
