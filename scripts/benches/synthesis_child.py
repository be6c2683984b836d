"""One way to make pictures, step by step: ``synthesis_child.py WAY SETTINGS``; turns come on stdin.

Each line asks for a number of steps; the answer is what each took, and what went into the network.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

_END = 10**6


class _Clock:
    """Counts steps, and waits between turns. What it takes itself is on nobody's account."""

    def __init__(self) -> None:
        self.left, self.steps = 0, []
        self.shapes: list[list[int]] = []
        self.given: list[list[int]] | None = None
        self.answer = sys.stdout
        sys.stdout = sys.stderr  # a library may print
        self.wait()

    def wait(self) -> None:
        """For the next turn."""
        line = sys.stdin.readline()
        if not line:
            os._exit(0)  # in the middle of a search that nobody needs any more
        asked = json.loads(line)
        self.left, self.given = asked["steps"], asked["shapes"]
        self.shapes, self.steps = [], []
        self.start()

    def start(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def seen(self, shape: Any) -> None:
        """What goes into the network."""
        self.shapes.append(list(shape))

    def step(self) -> None:
        """A step is done."""
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        self.steps.append({"wall": wall, "cpu": cpu, "shape": self.shapes[-1]})
        self.left -= 1
        if not self.left:
            self.answer.write(json.dumps(self.steps) + "\n")
            self.answer.flush()
            self.wait()
        self.start()


def convlens_way(settings: dict[str, Any], threads: int) -> None:
    """The loop of the method ``visualise``, as its preset has it."""
    import torch

    import convlens
    from convlens.synthesis import starts
    from convlens.synthesis.canvas import canvas_for
    from convlens.synthesis.loop import Stage, optimise
    from convlens.synthesis.objectives import channels_of, goal_of
    from convlens.synthesis.presets import PRESETS
    from convlens.synthesis.recipes import recipe_of

    torch.set_num_threads(threads)
    model = convlens.load(settings["model"], threads=threads, **_card(settings))
    layer = model.layers.find(settings["layer"])
    channels = range(settings["channel"], settings["channel"] + settings["pictures"])
    goal = goal_of(model, channels_of(layer, list(channels)))
    way = PRESETS["lucid2017"].settings
    canvas = canvas_for(model, (settings["side"],) * 2)
    start = starts.KINDS[way["start"]](canvas, settings["pictures"], 0)
    graph, clock = model.instrument(), _Clock()
    stream = graph.stream

    def watched(feeds: Any, *rest: Any, **named: Any) -> Any:
        clock.seen(next(iter(feeds.values())).shape)
        return stream(feeds, *rest, **named)

    graph.stream = watched  # type: ignore[method-assign]
    stages = [Stage(canvas.size, _END)]
    optimise(model, canvas, goal, start, stages, recipe_of(way), advance=lambda _share: clock.step())


def bare_way(settings: dict[str, Any], threads: int) -> None:
    """A forward and a backward of the layers below the target, nothing else."""
    import torch

    import convlens

    torch.set_num_threads(threads)
    model = convlens.load(settings["model"], threads=threads, **_card(settings))
    value = model.layers.find(settings["layer"]).name
    net = _network(str(model.path), value)
    net.to(memory_format=torch.channels_last).requires_grad_(False).eval()
    rows = range(settings["pictures"])
    channels = [settings["channel"] + row for row in rows]
    clock = _Clock()
    while True:
        assert clock.given is not None
        shape = clock.given[len(clock.shapes)]
        x = torch.rand(shape).contiguous(memory_format=torch.channels_last).requires_grad_()
        clock.start()
        clock.seen(shape)
        score = net(x)[rows, channels].mean(dim=(1, 2)).sum()
        torch.autograd.grad(score, x)
        clock.step()


def lucent_way(settings: dict[str, Any], threads: int) -> None:
    """Lucent's own loop, with its own transforms, in its own picture of frequencies."""
    import torch

    torch.set_num_threads(threads)
    names = _stand_ins()
    from lucent.optvis import param, render

    for name in names:  # torch asks for the specification of what is there
        del sys.modules[name]
    net = _network(settings["model"], settings["layer"]).requires_grad_(False).eval()
    clock, first = _Clock(), settings["channel"]

    def seen(_module: Any, given: Any) -> None:
        clock.seen(given[0].shape)

    net.register_forward_pre_hook(seen)
    last = str(len(net) - 1)
    begun = False

    def objective(layers: Callable[[str], Any]) -> Any:
        nonlocal begun
        if begun:
            clock.step()  # from the last step's objective to this one's
        begun = True
        value = layers(last)
        return -sum(value[row, first + row].mean() for row in range(len(value)))

    batch = settings["pictures"]
    render.render_vis(
        net,
        objective,
        lambda: param.image(settings["side"], batch=batch),
        thresholds=(_END,),
        progress=False,
        show_image=False,
    )


def _card(settings: dict[str, Any]) -> dict[str, Any]:
    """How photos go into a file that has no card."""
    if not settings["model"].endswith(".onnx"):
        return {}
    size = [settings["side"]] * 2
    return {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "channels": "RGB", "size": size}


def _network(path: str, value: str) -> Any:
    """Convolutions, rectifiers and poolings of an ONNX file up to a value, as torch's own layers."""
    import numpy as np
    import onnx
    import torch
    from onnx import helper, numpy_helper
    from torch import nn

    graph = onnx.load(path).graph
    stored = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    layers: list[nn.Module] = []
    for node in graph.node:
        options = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == "Cast" and node.input[0] in stored:  # weights in half precision
            stored[node.output[0]] = stored[node.input[0]].astype(np.float32)
            continue
        if node.op_type == "Conv":
            weight, bias = (torch.from_numpy(stored[name].astype(np.float32)) for name in node.input[1:3])
            pads, strides = options["pads"], options.get("strides", [1, 1])
            layer: nn.Module = nn.Conv2d(
                weight.shape[1], weight.shape[0], weight.shape[2:], strides, pads[:2]
            )
            layer.load_state_dict({"weight": weight, "bias": bias})
        elif node.op_type == "Relu":
            layer = nn.ReLU()
        elif node.op_type == "MaxPool":
            layer = nn.MaxPool2d(options["kernel_shape"], options["strides"])
        else:
            raise SystemExit(f"{node.op_type}: only convolutions, rectifiers and poolings in a row")
        layers.append(layer)
        if value in node.output:
            return nn.Sequential(*layers)
    raise SystemExit(f"no value {value!r} in {path}")


def _stand_ins() -> list[str]:
    """What Lucent imports and its loop does not use; of torchvision it uses Normalize.

    Torchvision as packaged belongs to another build of torch.
    """
    import torch

    class Normalize:
        def __init__(self, mean: Any, std: Any) -> None:
            self.mean, self.std = (torch.tensor(each).view(-1, 1, 1) for each in (mean, std))

        def __call__(self, x: Any) -> Any:
            return (x - self.mean) / self.std

    names = ["torchvision", "torchvision.transforms", "torchvision.models", "IPython", "IPython.display"]
    names += ["sklearn", "sklearn.decomposition"]
    for name in names:
        sys.modules[name] = ModuleType(name)
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], own, sys.modules[name])
    sys.modules["torchvision.transforms"].Normalize = Normalize  # type: ignore[attr-defined]
    sys.modules["sklearn"].base = SimpleNamespace(BaseEstimator=object)  # type: ignore[attr-defined]
    return names


def main() -> None:
    way, settings = sys.argv[1], json.loads(sys.argv[2])
    ways = {"convlens": convlens_way, "bare": bare_way, "lucent": lucent_way}
    ways[way](settings, settings["threads"])


if __name__ == "__main__":
    main()
