"""``Model``: one file, its card, its executors behind one face."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens import catalogue, inputs, ops
from convlens.cards import Card
from convlens.classes import Classes, find_classes
from convlens.graph.bind import Feed
from convlens.graph.graph import Graph, Node
from convlens.graph.layers import Facts, Layer, Layers, find_layers, total_macs
from convlens.graph.load import load_graph
from convlens.graph.passes.unbatched import give_batch
from convlens.graph.reading import Digest
from convlens.graph.source import Source, find_source
from convlens.inputs import Inputs
from convlens.precision import FULL, check_graph
from convlens.preprocess import Preprocess, complete
from convlens.registry import Images
from convlens.results import Result
from convlens.running import run
from convlens.runtime.providers import check_precision
from convlens.runtime.runner import Runner
from convlens.targets import Spec, Target, need_classes, resolve
from convlens.trust.batches import Batching, batching_of
from convlens.trust.certificate import Certificate
from convlens.trust.checks import Check
from convlens.trust.making import against_file, certificate_of
from convlens.watch import Watch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.instrument.build import TorchGraph
    from convlens.instrument.session import Session
    from convlens.recording.reading import Recording


def load(
    path: str | PathLike[str],
    card: Card | str | PathLike[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
    feeds: Mapping[str, Feed] | None = None,
    precision: str = FULL,
    **settings: Any,
) -> Model:
    """Load a model.

    Args:
        path: an ONNX file, or the name of a model that ``convlens models`` lists.
        card: a card, or where it lies; without it the one beside the file is taken, if there is one.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: threads inside one onnxruntime forward; None leaves it to onnxruntime.
        feeds: inputs to bind to constants, by name: a number, lists of them, an array or a ``.npy`` file.
        precision: of gradients: ``float32``, or faster and less exact on a GPU ``float16`` or ``bfloat16``
            (autocast). Methods that need every bit refuse the lower ones; onnxruntime computes as the file
            says.
        settings: single card settings: ``mean``, ``std``, ``layout``, ``size``, ``range``,
            ``channels``, ``labels``, ``scores``, ``resize``, ``crop``, ``interpolation``, ``kind``,
            ``name`` (of the input), ``rate``, ``pad``, ``vocabulary``.

    Raises:
        ModelFileError: the file cannot be read.
        UsageError: there is no such file or name.
        ParameterError: the device or the model cannot do ``precision``.
        CardError: the card is malformed.
    """
    check_precision(precision, device)
    file = catalogue.locate(fspath(path))
    if card is None:
        chosen = Card.beside(file) or Card()
    else:
        chosen = card if isinstance(card, Card) else Card.load(Path(card))
    chosen = chosen.override(settings)
    bound = {**chosen.feeds, **(feeds or {})}
    graph, digest = load_graph(file, bound, images=True)
    model = Model(graph, chosen, file, digest, device, threads, precision)
    if chosen.input.size is not None and any(node.op == "If" for node in graph.nodes):
        source = model.source  # at a size that is said, conditions on sizes are decided
        added = give_batch.done in graph.changes  # the file's own axes are counted without it
        sizes = dict(zip((axis - added for axis in source.spatial), chosen.input.size, strict=False))
        graph, digest = load_graph(file, bound, {source.name: sizes}, images=True)
        model = Model(graph, chosen, file, digest, device, threads, precision)
    return model


class Model:
    """One ONNX file, loaded and checked. Made by :func:`load`."""

    def __init__(
        self,
        graph: Graph,
        card: Card,
        path: Path,
        digest: Digest,
        device: str = "auto",
        threads: int | None = None,
        precision: str = FULL,
    ) -> None:
        """Take a graph and its card; executors are made when they are needed.

        Raises:
            ParameterError: the device or the model cannot do ``precision``.
        """
        check_precision(precision, device)
        check_graph(precision, graph)
        self.graph = graph
        self.card = card
        self.path = path
        self._digest = digest
        self.device = device
        self.threads = threads
        self.precision = precision
        self._torch: dict[str, TorchGraph] = {}
        self._certificates: dict[int, Certificate] = {}
        self._against_file: dict[int, tuple[Check, ...]] = {}
        self._batching: Batching | None = None

    def __repr__(self) -> str:
        return f"<Model {self.name}: {len(self.layers)} layers>"

    @property
    def name(self) -> str:
        """The card's name for it, else the file's."""
        return self.card.model.name or self.path.stem

    @property
    def sha256(self) -> str:
        """SHA-256 of the file, in hex; external data files are hashed with it."""
        return self._digest.hex

    @cached_property
    def source(self) -> Source:
        """The input that is explained.

        Raises:
            UnsupportedError: there is none.
        """
        given = self.card.input
        return find_source(self.graph, given.layout, given.name, given.kind)

    @cached_property
    def layers(self) -> Layers:
        """Every layer, in the order in which they are computed."""
        source = self.source
        size = self.card.input.size
        return find_layers(
            self.graph,
            _facts,
            source.name,
            source.channel,
            source.spatial,
            source.numbers(size),
        )

    def __getitem__(self, name: str) -> Layer:
        """The layer of that name or alias."""
        return self.layers.find(name)

    @cached_property
    def classes(self) -> Classes | None:
        """The output that holds class scores, None where the model has none.

        Raises:
            CardError: the card names an output or a number of labels that does not fit.
        """
        return find_classes(self.graph, self.card, self.source.shape)

    @cached_property
    def preprocess(self) -> Preprocess:
        """From photo to array, complete.

        Raises:
            CardError: the card says too little; the message names the line to add.
            ImageError: the model takes no photo.
        """
        return complete(self.card, self.source)

    @property
    def colours(self) -> str:
        """Order of the colours in the input, for drawing what has its shape; RGB where no card says."""
        return self.card.input.channels or "RGB"

    @cached_property
    def runner(self) -> Runner:
        """onnxruntime on this model: values only."""
        return Runner(
            self.graph,
            self.device,
            self.threads,
            self.source.name,
            together=lambda: self.batching().together,
            macs=lambda: total_macs(self.layers),
        )

    @property
    def torch(self) -> TorchGraph:
        """The model as a plain ``nn.Module`` in float32, for this project and any other tool."""
        return self.instrument()

    def instrument(self, dtype: str = "float32") -> TorchGraph:
        """The PyTorch graph in the given working precision, ``float32`` or ``float64``.

        Raises:
            UnsupportedError: an operator has no converter.
        """
        if dtype not in self._torch:
            import torch

            from convlens.instrument.build import TorchGraph
            from convlens.instrument.layout import arrange

            graph = TorchGraph(self.graph, getattr(torch, dtype))
            if self.runner.device == "cuda" and torch.cuda.is_available():
                arrange(graph.to("cuda"), "cuda", halves=self.precision != FULL)
            self._torch[dtype] = graph
        return self._torch[dtype]

    def session(self, rule: str = "plain", dtype: str = "float32") -> Session:
        """A context with taps and a rule on the PyTorch graph; layers go by name or alias.

        It computes in the model's precision, float64 in float64; in float16 a gradient is taken by
        :meth:`~convlens.instrument.session.Session.gradient`, which keeps it in range.
        """
        from convlens.instrument.session import Session

        lowered = self.precision if dtype == "float32" else FULL
        return Session(self.instrument(dtype), rule, self.value_name, self.source.name, lowered)

    def value_name(self, name: str) -> str:
        """The ONNX value name for an alias; a name that is no alias comes back as it is."""
        layer = self.layers.get(name)
        return layer.name if layer is not None else name

    def certificate(self, seed: int = 0) -> Certificate:
        """The PyTorch graph held against onnxruntime at every value.

        On a seeded random input, and on a bundled photo where the card says how photos go in. The
        outcome is cached by the model's hash, the card and the code of this package.

        Raises:
            UnsupportedError: the graph cannot be built or run in one of the two.
        """
        if seed not in self._certificates:
            self._certificates[seed] = certificate_of(self, seed)
        return self._certificates[seed]

    def against_file(self, seed: int = 0) -> tuple[Check, ...]:
        """Every output of the graph that is run held against the file as it lies on disk; cached.

        Raises:
            UnsupportedError: onnxruntime does not run the graph.
        """
        if seed not in self._against_file:
            self._against_file[seed] = against_file(self, seed)
        return self._against_file[seed]

    def batching(self) -> Batching:
        """Whether several images may share a forward, and why not where they may not; cached.

        Raises:
            UnsupportedError: the model cannot be run, or the graph that was read does not compute what
                the file does.
        """
        if self._batching is None:
            self._batching = batching_of(self)
        return self._batching

    def images(self, given: Inputs) -> Images:
        """A batch, from arrays as the model takes them, or from photos through the card.

        Args:
            given: an array (images along the first axis), a path or PIL image, or several.

        Raises:
            CardError: photos were given and the card does not say how they go in.
            UsageError: an array of the wrong shape, or nothing at all.
            ImageError: a photo cannot be decoded.
        """
        return inputs.batch(given, self.source, lambda: self.preprocess, self.card)

    def readable(self, paths: Sequence[Path]) -> tuple[Images | None, list[tuple[Path, str]]]:
        """The files that can be read as one batch, and the others with the reason."""
        return inputs.readable(paths, self.source, lambda: self.preprocess, self.card)

    def input_words(self, photos: bool = True) -> str:
        """How inputs go in, for people; ``photos`` says whether pictures do, or arrays as they are.

        Raises:
            CardError: photos go in, and the card does not say how.
        """
        return inputs.words(self.source, lambda: self.preprocess, self.card, photos)

    def target(self, spec: Spec) -> Target:
        """A target on this model. See :mod:`convlens.targets` for what can be typed."""
        classes, labels = self.classes, self.card.labels_for(self.graph)
        return resolve(spec, self.graph, self.layers, classes, self.source, labels)

    def probabilities(self, images: Images, batch_size: int = 4) -> NDArray[Any]:
        """Class probabilities, N x classes, by onnxruntime.

        Raises:
            UsageError: the model has no class scores.
        """
        classes = need_classes(self.classes, self.layers, "probabilities asked for, but", self.graph.outputs)
        feeds = {self.source.name: images.array}
        return classes.probabilities(self.runner.run(feeds, [classes.name], batch_size)[classes.name])

    def run(
        self,
        method: str,
        images: Inputs | None = None,
        target: Spec = None,
        *,
        batch_size: int = 4,
        seed: int = 0,
        allow_uncertified: bool = False,
        progress: Callable[[float], None] | None = None,
        watch: Watch | None = None,
        recording: Recording | None = None,
        **parameters: Any,
    ) -> Result:
        """Run a registered method.

        Args:
            method: its name, see :func:`convlens.methods`.
            images: what to run it on; None for methods about the model alone.
            target: what to explain; None means the predicted class of each image.
            batch_size: images in one forward; memory is bounded by it, results do not depend on it.
            seed: for everything random.
            allow_uncertified: run although PyTorch and onnxruntime disagree; the Result says so.
            progress: called with the share that is done, 0 to 1.
            watch: how a method that searches is followed, stopped and taken up again.
            recording: what a data set did to this model, for methods that read one.
            parameters: the method's own.

        Raises:
            UncertifiedError: the certificate failed and ``allow_uncertified`` is false.
            UsageError: parameters, target, layer, card or images do not fit.
        """
        return run(
            self,
            method,
            images,
            target,
            parameters,
            batch_size=batch_size,
            seed=seed,
            allow_uncertified=allow_uncertified,
            advance=progress or (lambda _share: None),
            watch=watch or Watch(),
            recording=recording,
        )

    def attribute(self, x: Inputs, target: Spec = None, method: str = "saliency", **options: Any) -> Result:
        """:meth:`run` with the arguments in the order that attribution asks for."""
        return self.run(method, x, target, **options)


def _facts(node: Node, graph: Graph) -> Facts:
    entry = ops.find(node)
    if entry is None:
        return Facts("other", ops.rule_of(node, graph), None)
    return Facts(entry.kind, entry.window(node, graph), entry.macs)
