"""Whether a gradient of what a model says reaches what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from convlens.errors import UnsupportedError
from convlens.explained import explained_at

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model


def check_gradient(model: Model, feeds: Mapping[str, NDArray[Any]], seed: int) -> tuple[bool, str]:
    """Whether some output's gradient arrives, finite and not all zero; and where, or why not.

    Each output is weighed with random numbers, since the sum of a softmax has no gradient.
    """
    try:
        place = explained_at(model.graph, model.source)
    except UnsupportedError as error:
        return False, str(error)
    at = place.value
    graph = model.instrument()
    leaf: list[Any] = []

    def start(value: Any) -> Any:
        leaf.append(value.detach().requires_grad_())
        return leaf[-1]

    rng = np.random.default_rng(seed)
    tensors = {name: graph.working(array, name) for name, array in feeds.items()}
    found = graph.values(tensors, model.graph.outputs, edits={at: start})
    if not leaf:
        return False, f"no output depends on input {model.source.name!r}"
    arrived, problems = [], []
    for name in dict.fromkeys(model.graph.outputs):
        value = found[name]
        if not value.is_floating_point() or not value.requires_grad:
            problems.append(f"output {name!r} has none ({value.dtype})".replace("torch.", ""))
            continue
        leaf[0].grad = None
        weights = value.new_tensor(rng.standard_normal(tuple(value.shape)))
        score: Any = (value * weights).sum()
        score.backward(retain_graph=True)
        gradient = leaf[0].grad
        if gradient is None:
            problems.append(f"output {name!r} does not depend on the input")
        elif not bool(gradient.isfinite().all()):
            problems.append(f"of output {name!r} it is not finite")
        elif not bool(gradient.any()):
            problems.append(f"of output {name!r} it is zero everywhere")
        else:
            arrived.append(name)
    text = f"of {', '.join(arrived)} at {place.words()}" if arrived else ""
    return bool(arrived), "; ".join(part for part in (text, *problems) if part)
