"""The graph in PyTorch: every value under its ONNX name, a tap on any of them, a rule for rectifiers."""
