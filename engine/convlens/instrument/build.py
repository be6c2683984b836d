"""The PyTorch graph: built node by node from the operator table, every value under its ONNX name."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from convlens import ops
from convlens.errors import UnsupportedError
from convlens.graph.graph import Graph, Node
from convlens.graph.pause import no_collection
from convlens.graph.rectifiers import Rectifier, find_rectifiers
from convlens.instrument.branching import Branching
from convlens.instrument.failing import TORCH, failed
from convlens.instrument.gates import gated, opened
from convlens.instrument.layout import arrange, steadied
from convlens.instrument.maker import Maker, from_array, to_tensor, with_integers, wrapped
from convlens.instrument.rules import Rule
from convlens.ops.quantcodes import find_codes, takes_codes

if TYPE_CHECKING:
    from convlens.instrument.session import Session

ACTIVE: ContextVar[tuple[Session, ...]] = ContextVar("convlens_sessions", default=())

_PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}


@dataclass(frozen=True)
class Step:
    """One node made callable, with the names of what it still reads at run time."""

    node: Node
    call: Callable[..., Any]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The steps that some values need, and after which step each value can go."""

    steps: tuple[Step, ...]
    expire: tuple[tuple[str, ...], ...]


class TorchGraph(nn.Module):
    """The model as a plain ``nn.Module``: evaluation mode, weights frozen, one submodule an operator.

    Called like any module, it returns the graph's output, or a tuple where there are several. Inside
    a :class:`~convlens.instrument.session.Session` on it, the session's rule and taps apply.

    Args:
        graph: the normalised graph.
        dtype: working precision; every real-valued constant is brought to it when it is float64.
        codes: which inputs hold codes of quantised numbers, where ``graph`` is a branch inside another
            one; None finds them.

    Raises:
        UnsupportedError: an operator, or a variant of one, has no converter.
    """

    def __init__(
        self, graph: Graph, dtype: torch.dtype = torch.float32, codes: Mapping[str, str] | None = None
    ) -> None:
        """Build every node; nothing is computed yet."""
        super().__init__()
        self.graph = graph
        self.dtype = dtype
        self.rectifiers = find_rectifiers(graph)
        self.codes = find_codes(graph, codes)
        self._plans: dict[frozenset[str], Plan] = {}
        self._constants: dict[str, str] = {}
        self._steps = self._build()
        self._step_of = {out: step for step in self._steps for out in step.node.outputs if out}
        arrange(self)
        self.eval()
        self.requires_grad_(False)

    def _free(self, name: str) -> str:
        """``name``, with as many underscores as it takes to be no attribute of this module yet."""
        while hasattr(self, name):
            name += "_"
        return name

    @no_collection()
    def _build(self) -> list[Step]:
        unknown = sorted({n.full_op for n in self.graph.nodes if ops.find(n) is None})
        if unknown:
            raise UnsupportedError(
                f"no PyTorch converter for operator {', '.join(unknown)}; layers can still be listed, but "
                "gradients need a converter: a module of your own that enters one with "
                "convlens.ops.operator, announced as an entry point of the group 'convlens.ops' "
                "(docs/operators.md)"
            )
        steps = []
        for node in self.graph.nodes:
            entry = ops.find(node)
            assert entry is not None
            maker = Maker(node, self.graph, self.dtype, self.codes)
            try:
                call = steadied(entry.torch(maker))
            except UnsupportedError:
                raise
            except Exception as error:
                raise UnsupportedError(
                    f"{node.full_op} node {node.name or node.outputs[0]!r} could not be built: {error}"
                ) from error
            if isinstance(call, nn.Module):
                self.add_module(self._free(module_name(node)), call)
            names = tuple(name for i, name in enumerate(node.inputs) if i not in maker.taken)
            while names and not names[-1]:
                names = names[:-1]
            if isinstance(call, Branching):
                steps.append(Step(node, call, (*names, *call.captures)))
                self._hold(node.inputs[0])
                continue
            for name in names:
                self._hold(name)
            if not takes_codes(node, self.codes) and not self.codes.keys().isdisjoint(names):
                call = with_integers(call, [self.codes.get(name) for name in names])
            call = wrapped(call, [self.graph.value(name).dtype for name in node.outputs])
            steps.append(Step(node, call, names))
        for name in self.graph.outputs:
            self._hold(name)
        return steps

    def _hold(self, name: str) -> None:
        """Keep a constant that is read at run time as a buffer, so that it moves with the module."""
        array = self.graph.constant(name)
        if array is not None and name not in self._constants:
            buffer = f"constant_{len(self._constants)}"
            self.register_buffer(buffer, to_tensor(array, self.dtype))
            self._constants[name] = buffer

    def plan(self, names: Collection[str]) -> Plan:
        """The steps that ``names`` need, in order, and what can be dropped after each."""
        key = frozenset(names)
        if key not in self._plans:
            needed = self.graph.ancestors(names)
            steps = tuple(s for s in self._steps if not needed.isdisjoint(s.node.outputs))
            last: dict[str, int] = {}
            for index, step in enumerate(steps):
                for name in (*step.node.reads, *step.node.outputs):
                    last[name] = index
                rectifier = self.rectifiers.get(step.node.outputs[0])
                if rectifier is not None:
                    last[rectifier.source] = index  # a gate is replayed from its source
            expire: list[list[str]] = [[] for _ in steps]
            for name, index in last.items():
                if name and name not in key:
                    expire[index].append(name)
            self._plans[key] = Plan(steps, tuple(tuple(batch) for batch in expire))
        return self._plans[key]

    def stream(
        self,
        feeds: Mapping[str, Tensor],
        names: Collection[str],
        rule: Rule | None = None,
        edits: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    ) -> Iterator[tuple[str, Tensor]]:
        """Compute ``names``, yielding every value on the way; each is let go after its last use.

        Args:
            feeds: the graph's inputs by name.
            names: the values wanted; only the part of the graph that they need is run.
            rule: what rectifiers do on the way back; None or ``plain`` leaves torch's own gradient.
            edits: functions that replace a value as soon as it is there.
        """
        for name, value in self._run(feeds, names, rule, edits or {}):
            if isinstance(value, Tensor):  # lists, and what is absent, stay inside the graph
                yield name, value

    def held(
        self, feeds: Mapping[str, Any], names: Collection[str], rule: Rule | None = None
    ) -> dict[str, Any]:
        """The values ``names`` as :meth:`stream` computes them, lists and what is absent too."""
        wanted = set(names)
        return {name: value for name, value in self._run(feeds, names, rule, {}) if name in wanted}

    def _run(
        self,
        feeds: Mapping[str, Any],
        names: Collection[str],
        rule: Rule | None,
        edits: Mapping[str, Callable[[Tensor], Tensor]],
    ) -> Iterator[tuple[str, Any]]:
        """Everything that is computed on the way to ``names``."""
        gate = rule is not None and rule.name != "plain"
        held: dict[str, Any] = {}
        for name, value in feeds.items():
            held[name] = edits[name](value) if name in edits else value
            yield name, held[name]
        for name in names:
            if name in self._constants:
                yield name, getattr(self, self._constants[name])
        plan = self.plan(names)
        for step, expired in zip(plan.steps, plan.expire, strict=True):
            arguments = [self._read(name, held) for name in step.inputs]
            inside = {"rule": rule} if isinstance(step.call, Branching) else {}
            try:
                result = step.call(*arguments, **inside)
            except TORCH as error:
                raise failed(step.node, error) from error
            results = result if isinstance(result, tuple) else (result,)
            for name, computed in zip(step.node.outputs, results, strict=False):
                if not name:
                    continue
                value = computed
                rectifier = self.rectifiers.get(name) if gate else None
                if rectifier is not None and rule is not None:
                    source = held[rectifier.source]
                    if rectifier.name == "Relu":
                        value = opened(source, value, rule)
                    else:
                        value = gated(source, value, rule, partial(self._replay, rectifier, held))
                held[name] = edits[name](value) if name in edits else value
                yield name, held[name]
            for name in expired:
                held.pop(name, None)

    def _replay(self, rectifier: Rectifier, held: Mapping[str, Tensor], source: Tensor) -> Tensor:
        """The rectifier once more, as a function of its input alone; a computed slope stays as it is."""
        local = {**held, rectifier.source: source}
        for node in rectifier.nodes:
            step = self._step_of[node.outputs[0]]
            local[node.outputs[0]] = step.call(*(self._read(name, local) for name in step.inputs))
        return local[rectifier.output]

    def _read(self, name: str, held: Mapping[str, Tensor]) -> Tensor | None:
        if not name:
            return None
        if name in held:
            return held[name]
        if name in self._constants:
            constant: Tensor = getattr(self, self._constants[name])
            return constant
        raise UnsupportedError(f"value {name!r} is read before it is computed; the graph is malformed")

    def values(
        self,
        feeds: Mapping[str, Tensor],
        names: Collection[str],
        rule: Rule | None = None,
        edits: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    ) -> dict[str, Tensor]:
        """The values ``names``, computed from ``feeds``. Arguments as for :meth:`stream`."""
        wanted = set(names)
        found = {n: v for n, v in self.stream(feeds, names, rule, edits) if n in wanted}
        missing = wanted - found.keys()
        if missing:
            name = sorted(missing)[0]
            listed = name in self._step_of
            raise UnsupportedError(
                f"value {name!r} is a list of tensors, not a tensor; take a value that is computed from it"
                if listed
                else f"the graph has no value {name!r}"
            )
        return found

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The graph's outputs for its inputs, in the file's order."""
        names = [value.name for value in self.graph.inputs]
        if len(inputs) != len(names):
            raise TypeError(f"the model takes {len(names)} inputs ({', '.join(names)}), got {len(inputs)}")
        feeds = dict(zip(names, inputs, strict=True))
        session = next((s for s in reversed(ACTIVE.get()) if s.graph is self), None)
        if session is None:
            found = self.values(feeds, self.graph.outputs)
        else:
            found = session.collect(feeds, self.graph.outputs)
        return self.packed(found)

    def packed(self, found: Mapping[str, Tensor]) -> Tensor | tuple[Tensor, ...]:
        """The outputs among ``found`` as the module returns them: bare where there is one, else a tuple."""
        outputs = tuple(found[name] for name in self.graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def local(self, name: str, values: Mapping[str, Any]) -> Tensor:
        """Value ``name`` alone, from arrays of whatever its node reads."""
        step = self._step_of[name]
        reads: dict[str, Any] = {
            n: [self.working(part, n) for part in values[n]]
            if isinstance(values[n], list)
            else self.working(values[n], n)
            for n in step.inputs
            if n in values and n not in self._constants
        }
        with torch.no_grad():
            result = step.call(*(self._read(n, reads) for n in step.inputs))
        found: Tensor = result[step.node.outputs.index(name)] if isinstance(result, tuple) else result
        return found

    def module(self, value: str) -> nn.Module | None:
        """The submodule that computes the value of that ONNX name, None where it is a plain function."""
        call = self._step_of[value].call if value in self._step_of else None
        return call if isinstance(call, nn.Module) else None

    def branchings(self) -> tuple[Branching, ...]:
        """Every ``If`` of this graph, those inside of branches left out."""
        return tuple(step.call for step in self._steps if isinstance(step.call, Branching))

    def working(self, array: Any, name: str) -> Tensor:
        """``array`` as a tensor for value ``name``: on this graph's device, real numbers in its
        working precision, or in half precision where the file says so and float64 is not asked for.
        """
        tensor = array if isinstance(array, Tensor) else from_array(array)
        device = next((held.device for held in chain(self.parameters(), self.buffers())), None)
        dtype = tensor.dtype
        if name in self.codes:  # whole numbers of 32 bits are more than float32 holds
            dtype = torch.float64 if self.codes[name] == "int32" else self.dtype
        elif dtype.is_floating_point:
            own = _PRECISIONS.get(self.graph.value(name).dtype or "", self.dtype)
            dtype = own if self.dtype == torch.float32 else self.dtype
        return tensor.to(device=device, dtype=dtype)


def module_name(node: Node) -> str:
    """A name that ``nn.Module`` takes, from the value that the node computes."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", node.outputs[0]).strip("_") or "node"
