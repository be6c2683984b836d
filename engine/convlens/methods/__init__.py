"""One technique a file. A file here is a command, a report section and a line in the documentation.

Modules of this package must not import torch or onnxruntime at the top: listing the methods is
part of ``convlens --help``.
"""
