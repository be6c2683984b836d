"""Short names that a person can type, from the long ones that exporters write.

``/features/features.28/Conv_output_0`` becomes ``features.28``, ``functional_1/conv1/BiasAdd:0``
becomes ``conv1`` and the rectifier behind it ``conv1.relu``, ``conv5_3`` stays what it is, and a bare
number becomes ``conv12``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from convlens.graph.graph import Node

_NOISE = re.compile(r"(:\d+|_output_\d+|_quantized)$")
_TENSORFLOW = frozenset(
    {"biasadd", "conv2d", "convolution", "depthwise", "fusedbatchnorm", "fusedbatchnormv3", "matmul"}
)  # operations that end TensorFlow's names, whatever ONNX operator they became
_UNTYPABLE = re.compile(r"[^A-Za-z0-9_.\-]+")


def aliases(nodes: Sequence[Node], outputs: Collection[str] = ()) -> dict[str, str]:
    """A unique alias for every output of ``nodes``, by value name, in topological order.

    A module's name that the exporter left at a node is preferred to the value's own, except for
    ``outputs``: those of the model were named by a person.
    """
    paths = {
        output: _path(output, node, output in outputs) for node in nodes for output in node.outputs if output
    }
    skip = _common_prefix([path for path in paths.values() if len(path) > 1])
    names = Counter(output.lower() for output in paths)
    taken: set[str] = set()
    counts: Counter[str] = Counter()
    found: dict[str, str] = {}
    for node in nodes:
        counts[node.op] += 1
        for output in node.outputs:
            if not output:
                continue
            path = paths[output]
            path = path[skip:] if len(path) > skip else path
            own = output.lower()

            def free(alias: str, own: str = own) -> bool:
                # the ONNX name of another value stands for that value when it is typed
                typed = alias.lower()
                return typed not in taken and (typed not in names or (typed == own and names[own] == 1))

            found[output] = _unique(path, node, counts[node.op], free)
            taken.add(found[output].lower())
    return found


def strip(name: str) -> str:
    """A value name without what exporters append: ``Relu_1:0`` is ``Relu_1``."""
    return _NOISE.sub("", _NOISE.sub("", name))


def _path(output: str, node: Node, own: bool) -> list[str]:
    if node.scope and not own:
        return [_UNTYPABLE.sub("_", node.scope).lstrip("_"), node.op]
    text = strip(output)
    if _says_nothing(text, node):  # the weights often carry the module's name
        weight = node.input(1)
        stem = re.sub(r"\.(weight|kernel|gamma|w)$", "", weight)
        text = node.name if stem == weight or _says_nothing(stem, node) else stem
        text = "" if _says_nothing(text, node) else _NOISE.sub("", text)
    parts: list[str] = []
    for part in re.split(r"[/:]+", text.strip("/")):
        part = _UNTYPABLE.sub("_", part).lstrip("_-")
        if parts and (part == parts[-1] or part.startswith(parts[-1] + ".")):
            parts[-1] = part  # torch repeats the container: features/features.28
        elif part and not part.isdigit():
            parts.append(re.sub(r"\._", ".", part))
    return parts


def _says_nothing(text: str, node: Node) -> bool:
    """Whether a name is only a number, or an exporter's counter such as ``Conv_12`` and ``val_3``."""
    return re.fullmatch(rf"((onnx::)?({re.escape(node.op)}|val|tensor|x|t)?_?\d+)?", text) is not None


def _common_prefix(paths: list[list[str]]) -> int:
    """How many leading parts all the paths share and so can do without."""
    if len(paths) < 2:
        return 0
    shared = 0
    for column in zip(*(path[:-1] for path in paths), strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    return shared


def _unique(path: list[str], node: Node, count: int, free: Callable[[str], bool]) -> str:
    op = node.op.lower()
    last = path[-1].lower() if path else ""
    names_op = re.fullmatch(rf"{re.escape(op)}(_\d+)?", last) is not None or last in _TENSORFLOW
    drop_op = len(path) > 1 and names_op
    base = ".".join(path[:-1] if drop_op else path)
    numbered = f"{op}{count}"
    options = [base, f"{base}.{op}", ".".join(path)] if base else [numbered]
    for option in options:
        if option and not option.isdigit() and free(option):
            return option
    stem = options[1] if base else op
    suffix = 2
    while not free(f"{stem}_{suffix}"):
        suffix += 1
    return f"{stem}_{suffix}"
