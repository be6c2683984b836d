"""Where models come from: one module per recipe, found by the entry points ``convlens.recipes``.

A recipe is a function ``make(folder: Path) -> Path``. It writes ``NAME.onnx``, ``card.toml``,
``LICENCE.md`` and, for classifiers, ``labels.json`` into the folder and returns the path of the
ONNX file. It needs a network or a pip mirror, and gives the same bytes each time.
"""
