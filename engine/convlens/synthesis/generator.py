"""A generator network as a prior: pictures that it can make, and the latent vector that is sought in it.

What comes out looks like what the generator was trained on, where pixels alone give patterns that no photo
has (Nguyen et al. 2016, "Synthesizing the preferred inputs for neurons in neural networks via deep generator
networks"; Nguyen et al. 2017, "Plug & Play Generative Networks").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from convlens.errors import ParameterError, UncertifiedError
from convlens.graph.layers import shape_text
from convlens.synthesis.canvas import Canvas, resample

if TYPE_CHECKING:
    from convlens.graph.graph import Graph
    from convlens.model import Model
    from convlens.synthesis.parametrise import Parametrisation

RANGES = {"0,1": (0.0, 1.0), "-1,1": (-1.0, 1.0), "0,255": (0.0, 255.0)}
"""Black and white in a generator's numbers."""

_ENDS = {"Tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "Softsign": (-1.0, 1.0)}
_MOVES = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Resize", "Upsample", "Cast")
_SLACK = 1e-3  # of the range: rounding in the last step of a generator


@dataclass(frozen=True)
class Prior:
    """What keeps a latent vector where the generator was trained.

    Attributes:
        decay: share of the vector that is lost at each step (Nguyen et al. 2016: L2 on the code; the pull
            of Nguyen et al. 2017 towards likely codes, where those are normal).
        bound: largest magnitude of each of its numbers, 0 for none (Nguyen et al. 2016 clip at three
            standard deviations).
        noise: standard deviation of what is added at each step (Nguyen et al. 2017, equation 5).
    """

    decay: float = 0.0
    bound: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True)
class Generator:
    """A network from a latent vector to a picture.

    Attributes:
        model: it, certified.
        output: ONNX name of the picture.
        shape: of one latent vector without the batch axis: its numbers, then axes of length 1.
        low: what stands for black.
        high: what stands for white.
        last: whether the colours are the last axis of the picture.
    """

    model: Model
    output: str
    shape: tuple[int, ...]
    low: float
    high: float
    last: bool = False

    def latent(self, seeds: Sequence[int]) -> Tensor:
        """A normal vector from each seed."""
        drawn = [torch.randn(self.shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(drawn)

    def pictures(self, latent: Tensor, canvas: Canvas) -> Tensor:
        """What it makes of latent vectors, as pictures of the canvas, differentiable."""
        graph, name = self.model.instrument(), self.model.source.name
        step = self.model.runner.step(len(latent))
        parts = [latent[first : first + step] for first in range(0, len(latent), step)]
        made = [graph.values({name: part}, [self.output])[self.output] for part in parts]
        found = torch.cat(made)
        found = found.movedim(-1, 1) if self.last else found
        if canvas.photo:
            found = (found - self.low) / (self.high - self.low)
        if found.shape[1] != canvas.channels:
            grey = found.mean(dim=1, keepdim=True)
            found = grey.expand(-1, canvas.channels, *grey.shape[2:])
        if tuple(found.shape[2:]) != canvas.size:
            found = resample(found, canvas.size)
        return found.clamp(0, 1) if canvas.photo else found

    def form(
        self, prior: Prior, seeds: Sequence[int], random: bool, seed: int
    ) -> Callable[[Canvas, Tensor], Parametrisation]:
        """What makes the parametrisation of one picture a seed, from a normal vector or from zeros.

        ``seed`` is that of the prior's noise.
        """
        start = self.latent(seeds) if random else torch.zeros(len(seeds), *self.shape)
        return lambda canvas, _pictures: Latent(self, canvas, start.clone().requires_grad_(), prior, seed)


@dataclass
class Latent:
    """Latent vectors of a generator in the place of pictures."""

    generator: Generator
    canvas: Canvas
    leaf: Tensor
    prior: Prior
    seed: int

    @property
    def leaves(self) -> Sequence[Tensor]:
        """The vectors, N x k."""
        return (self.leaf,)

    def pictures(self) -> Tensor:
        """What the generator makes of them."""
        return self.generator.pictures(self.leaf, self.canvas)

    def put(self, pictures: Tensor) -> None:
        """Nothing: there is no way from a picture back to its vector."""

    def settle(self, step: int) -> None:
        """What the prior does after a step."""
        with torch.no_grad():
            if self.prior.decay:
                self.leaf *= 1 - self.prior.decay
            if self.prior.noise:
                rng = np.random.default_rng((self.seed, step, 2))
                drawn = rng.normal(0.0, self.prior.noise, self.generator.shape)
                self.leaf += torch.from_numpy(drawn).to(self.leaf)
            if self.prior.bound:
                self.leaf.clamp_(-self.prior.bound, self.prior.bound)


def load_generator(path: str, span: str | None, canvas: Canvas, like: Model) -> Generator:
    """A generator from an ONNX file, certified like any model.

    Args:
        path: of the file, or of a folder with a card.
        span: what is black and white in its pictures, a key of :data:`RANGES`; None reads it off the file.
        canvas: what a picture is for the model that it is to please.
        like: that model; the generator runs where it does.

    Raises:
        ParameterError: it takes no vector or makes no picture, or what is black and white is not known.
        UncertifiedError: PyTorch and onnxruntime disagree on it.
        ModelError: it cannot be read or is refused.
    """
    from convlens.model import load

    model = load(path, device=like.device, threads=like.threads)
    name = Path(path).name
    shape = _latent_shape(model, name)
    certificate = model.certificate()
    if not certificate.passed:
        raise UncertifiedError(f"generator {name}: {certificate.words()} Choose another generator")
    output, last = _picture(model, name, shape)
    low, high = RANGES[span] if span is not None else (0.0, 1.0)
    if canvas.photo and span is None:
        found = span_of(model.graph, output)
        if found is None:
            node = model.graph.producers.get(output)
            raise ParameterError(
                f"generator {name}: what is black and white cannot be told from its last operator "
                f"({node.op if node else 'none'}); say --generator-range {', '.join(RANGES)}"
            )
        low, high = found
    made = Generator(model, output, shape, low, high, last)
    if canvas.photo:
        _check_span(made, name)
    return made


def _latent_shape(model: Model, name: str) -> tuple[int, ...]:
    """The shape of one latent vector."""
    if len(model.graph.inputs) != 1:
        names = ", ".join(value.name for value in model.graph.inputs)
        raise ParameterError(
            f"generator {name}: takes {len(model.graph.inputs)} inputs ({names}), expected one vector"
        )
    shape = model.graph.inputs[0].shape
    rest = shape[1:] if shape is not None else ()
    if not rest or any(not isinstance(dim, int) for dim in rest) or any(dim != 1 for dim in rest[1:]):
        raise ParameterError(
            f"generator {name}: its input is {shape_text(shape)}; expected a vector of known length, N x k "
            "or N x k x 1 x 1"
        )
    return tuple(dim for dim in rest if isinstance(dim, int))


def _picture(model: Model, name: str, shape: tuple[int, ...]) -> tuple[str, bool]:
    """The output that is a picture, and whether its colours come last."""
    probe = np.zeros((1, *shape), model.source.dtype or "float32")
    values = model.runner.run({model.source.name: probe}, list(model.graph.outputs))
    for output in model.graph.outputs:
        dims = values[output].shape
        if len(dims) == 4 and dims[0] == 1 and dims[1] in (1, 3):
            return output, False
        if len(dims) == 4 and dims[0] == 1 and dims[3] in (1, 3):
            return output, True
    found = ", ".join(f"{output} {shape_text(values[output].shape)}" for output in model.graph.outputs)
    raise ParameterError(
        f"generator {name}: makes {found}; expected a picture, N x 3 x height x width (or 1 for grey)"
    )


def span_of(graph: Graph, name: str) -> tuple[float, float] | None:
    """Between which numbers value ``name`` lies by the way it is computed, None where that is open.

    It is followed back through moves and through steps with one constant (times, plus) to an operator that
    is bounded: tanh, a sigmoid, a clip.
    """
    factor, offset = 1.0, 0.0
    while (node := graph.producers.get(name)) is not None:
        if node.op in _ENDS:
            low, high = _ENDS[node.op]
            ends = sorted((factor * low + offset, factor * high + offset))
            return ends[0], ends[1]
        if node.op == "Clip":
            bounds = [_number(graph, node.input(place)) for place in (1, 2)]
            low_bound, high_bound = (bounds[0], bounds[1])
            if low_bound is None or high_bound is None:
                return None
            ends = sorted((factor * low_bound + offset, factor * high_bound + offset))
            return ends[0], ends[1]
        if node.op in _MOVES:
            name = node.inputs[0]
            continue
        if node.op not in ("Mul", "Div", "Add", "Sub"):
            return None
        constants = [_number(graph, each) for each in node.inputs]
        place = next((i for i, value in enumerate(constants) if value is not None), None)
        if place is None or (place == 0 and node.op == "Div"):
            return None
        value = constants[place]
        assert value is not None
        if node.op == "Mul":
            factor *= value
        elif node.op == "Div":
            factor /= value
        elif node.op == "Add":
            offset += factor * value
        elif place == 1:
            offset -= factor * value
        else:
            factor, offset = -factor, offset + factor * value
        name = node.inputs[1 - place]
    return None


def _number(graph: Graph, name: str) -> float | None:
    array = graph.known(name) if name else None
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def _check_span(generator: Generator, name: str) -> None:
    """Whether what it makes of a few vectors lies between black and white.

    Raises:
        ParameterError: it does not.
    """
    model = generator.model
    probe = generator.latent(range(4)).numpy()
    made = model.runner.run({model.source.name: probe}, [generator.output])[generator.output]
    low, high = float(made.min()), float(made.max())
    slack = _SLACK * (generator.high - generator.low)
    if low < generator.low - slack or high > generator.high + slack:
        raise ParameterError(
            f"generator {name}: its pictures hold numbers from {low:.3g} to {high:.3g}, and black to white "
            f"is taken as {generator.low:g} to {generator.high:g}; say another --generator-range"
        )
