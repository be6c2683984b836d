"""One ONNX file as a graph that the rest can stand on: read, normalised, named, measured. No torch."""
