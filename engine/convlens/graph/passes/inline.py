"""Local functions are written out where they are called."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from convlens.errors import UnsupportedError
from convlens.graph.passes.contract import changes
from convlens.graph.passes.names import unshadow


@changes(
    "local functions written out",
    "nodes",
    "weights",
    "functions",
    "opsets",
    when=lambda model, _kinds: bool(model.functions),
)
def inline_functions(model: ir.Model) -> None:
    """Replace each call of a model-local function by its body, functions inside functions too."""
    for function in model.functions.values():
        _agree_on_opsets(function, model)
        _own_outputs(function)
        function.sort()
    InlinePass()(model)
    for key in list(model.functions):  # never called
        del model.functions[key]
    unshadow(model.graph)


def _agree_on_opsets(function: ir.Function, model: ir.Model) -> None:
    """Let a function's opsets be the model's where its operators mean the same in both.

    Raises:
        UnsupportedError: an operator means something else in the model's opset.
    """
    imports = function.opset_imports
    for domain, version in list(imports.items()):
        own = model.opset_imports.get(domain)
        if own is None or own == version:
            continue
        for node in ir.traversal.RecursiveGraphIterator(function.graph):
            if node.domain == domain and not _same(node.op_type, domain, version, own):
                raise UnsupportedError(
                    f"local function {function.domain}.{function.name} is written in opset {version} of "
                    f"{domain or 'ai.onnx'!r}, the model in {own}, and {node.op_type} differs between the "
                    "two; export the model with one opset"
                )
        imports[domain] = own


def _same(op: str, domain: str, first: int, second: int) -> bool:
    try:
        a, b = (onnx.defs.get_schema(op, version, domain).since_version for version in (first, second))
    except onnx.defs.SchemaError:
        return True  # a function of the model's own, or an operator that no opset describes
    return bool(a == b)


def _own_outputs(function: ir.Function) -> None:
    """Give every output of a function a node of its own, so that the caller's names can stay."""
    seen: set[ir.Value] = set(function.inputs)
    for index, output in enumerate(function.outputs):
        if output in seen:
            node = ir.node("Identity", [output])
            node.outputs[0].name = f"{output.name}_out{index}"
            function.append(node)
            function.outputs[index] = node.outputs[0]
        seen.add(output)
