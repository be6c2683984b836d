"""The registry of methods: commands, report sections, documentation and contract tests come from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic import Field as Field

from convlens import listing
from convlens.errors import ParameterError, UsageError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model
    from convlens.recording.reading import Recording
    from convlens.results import Result
    from convlens.targets import Spec, Target
    from convlens.watch import Watch


@dataclass(frozen=True)
class Paper:
    """Where a technique comes from."""

    cite: str
    where: str = ""
    link: str = ""


class Parameters(BaseModel):
    """Base of a method's parameters. Each field has a default, a description, and a range where it has one.

    ``json_schema_extra={"unit": "pixels"}`` names the unit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, defer_build=True)


@dataclass(frozen=True)
class Images:
    """A batch of inputs: arrays as the model takes them, and where they come from.

    ``views`` is what the model sees of photos, and ``sizes`` the width and height of each photo as it was.
    ``origins`` is where each photo comes from, a file or a PIL image; None for arrays.
    """

    array: NDArray[Any]
    names: tuple[str, ...]
    views: NDArray[Any] | None = None
    sizes: tuple[tuple[int, int], ...] | None = None
    origins: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        """How many images."""
        return len(self.array)

    def rows(self, start: int, stop: int) -> Images:
        """The inputs ``start`` to ``stop`` as a batch of their own."""
        own = slice(start, stop)
        return Images(
            self.array[own],
            self.names[own],
            None if self.views is None else self.views[own],
            None if self.sizes is None else self.sizes[own],
            None if self.origins is None else self.origins[own],
        )

    def photo(self, index: int) -> NDArray[Any]:
        """A photo at its own size, read afresh: height x width x 3, red, green, blue, 8 bits.

        Raises:
            UsageError: the batch was made of arrays, which are all there is; ask for ``origins`` first.
            ImageError: the file cannot be read any more.
        """
        import numpy as np

        from convlens.images import read_image

        if self.origins is None:
            raise UsageError(
                f"{self.names[index]} is an array; expected a photo, from a file or as PIL image"
            )
        origin = self.origins[index]
        image = origin if hasattr(origin, "convert") else read_image(origin)
        return np.asarray(image.convert("RGB"), np.uint8)


P = TypeVar("P", bound=Parameters)


def _watch() -> Watch:
    from convlens.watch import Watch

    return Watch()


@dataclass(frozen=True)
class Job(Generic[P]):
    """One call of a method: everything that it may use.

    ``images`` is empty and ``target`` None where the method needs none; ``watch`` follows methods that
    search (see :mod:`convlens.watch`). ``recording`` is of this model; None where none was given.
    """

    model: Model
    parameters: P
    images: Images
    target: Target | None
    batch_size: int
    seed: int
    advance: Callable[[float], None] = field(default=lambda _share: None)
    watch: Watch = field(default_factory=_watch)
    recording: Recording | None = None

    @property
    def recorded(self) -> Recording:
        """The recording, for methods that must have one."""
        assert self.recording is not None
        return self.recording


@dataclass(frozen=True)
class Step:
    """One run of a method inside the audit.

    Attributes:
        section: heading under which it appears; steps of one heading stand side by side.
        order: sections appear in this order.
        title: names the step inside its section.
        parameters: settings other than the defaults.
        text: what a reader should know, in plain language.
        target: what is explained, where the method does not choose that itself.
    """

    section: str
    order: int
    title: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    target: str | None = None


@dataclass(frozen=True)
class Close:
    """Channels of one recorded layer that are to be looked at one by one.

    Attributes:
        layer: its alias.
        channels: all of them, by number.
        closer: those of them on which some seconds may be spent.
        drawn: those on which more may be spent.
    """

    layer: str
    channels: tuple[int, ...]
    closer: tuple[int, ...]
    drawn: tuple[int, ...]


@dataclass(frozen=True)
class Told:
    """What a Result says of one channel.

    Attributes:
        facts: numbers and words by what they are.
        marks: what stands out about it, a few words each.
    """

    facts: Mapping[str, str] = field(default_factory=dict)
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Finding:
    """Something that a Result shows, in plain language, with the evidence.

    ``level`` is ``good``, ``note`` or ``attention``. ``image`` is the index of the image it is about.
    """

    level: Literal["good", "note", "attention"]
    text: str
    evidence: str
    image: int | None = None


class Method(ABC, Generic[P]):
    """One technique. Subclass it, say what it needs, decorate it with :func:`register`.

    Attributes:
        name: of the command.
        summary: one line for lists.
        paper: where it comes from.
        kind: of its Results, see :class:`convlens.results.Result`.
        Parameters: what it can be told.
        images: whether it runs on images, or tells of the model alone.
        gradients: whether it needs the PyTorch graph.
        lowers: whether it can take its gradients in less than float32 (see :mod:`convlens.precision`).
        target: whether something is explained.
        classes: whether the model must have class scores.
        saves: whether the command writes files without being asked to.
        attributes: whether its Result says where in the input the target comes from; such a Result has
            the hint ``heat`` (see :mod:`convlens.attribution.maps`) and can be judged and compared.
        preview: settings with which it is quick and coarse, for a first look.
        together: whether it is about its images as a set, so that one more changes what is said of all.
        searches: whether it searches step by step, so that it can be watched, stopped and taken up again.
        recording: whether it reads what a data set did to the model: it ``must``, or it ``may``.
        asks: the parameter that stands on the command line without its name.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[Paper]
    kind: ClassVar[str]
    Parameters: ClassVar[type[Parameters]] = Parameters
    images: ClassVar[bool] = True
    gradients: ClassVar[bool] = False
    lowers: ClassVar[bool] = False
    target: ClassVar[bool] = False
    classes: ClassVar[bool] = False
    saves: ClassVar[bool] = True
    attributes: ClassVar[bool] = False
    preview: ClassVar[Mapping[str, Any]] = {}
    together: ClassVar[bool] = False
    searches: ClassVar[bool] = False
    recording: ClassVar[Literal["no", "may", "must"]] = "no"
    asks: ClassVar[str] = ""

    @abstractmethod
    def run(self, job: Job[P]) -> Result:
        """Do it. Results depend on the job alone, never on its batch size."""

    def default(self, model: Model) -> Spec:
        """What is explained where nothing is asked for; None is the predicted class of each image."""
        del model
        return None

    def plan(self, model: Model) -> Sequence[Step]:
        """The steps that this method adds to an audit of ``model``; none by default."""
        del model
        return ()

    def findings(self, result: Result) -> Sequence[Finding]:
        """What a reader should be told about ``result``; nothing by default."""
        del result
        return ()

    def look(self, model: Model, recording: Recording, close: Close) -> Sequence[Step]:
        """The steps that this method adds to a close look at some channels; none by default.

        Their Results are drawn channel by channel, where their kind can be (see
        :func:`convlens.pictures.by_channel`), beside what :meth:`tell` says of each.
        """
        del model, recording, close
        return ()

    def tell(self, result: Result) -> Mapping[int, Told]:
        """What a Result that :meth:`look` asked for says of each channel, by number; nothing by default."""
        del result
        return {}

    def parse(self, given: Mapping[str, Any]) -> P:
        """Parameters checked against type and range.

        Raises:
            ParameterError: unknown, of the wrong type, or out of range.
        """
        unknown = [name for name in given if name not in self.Parameters.model_fields]
        if unknown:
            known = list(self.Parameters.model_fields)
            hint = nearest(unknown[0], known) or f"; known: {', '.join(known) or 'none'}"
            raise ParameterError(f"{self.name} has no parameter {unknown[0]!r}{hint}")
        try:
            return self.Parameters(**given)  # type: ignore[return-value]
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"]) or "parameters"
            raise ParameterError(f"{self.name}: {name} is {first['input']!r}; {first['msg']}") from error

    def schema(self) -> dict[str, Any]:
        """The method as a JSON schema of its parameters, with what it is and needs beside it."""
        needs = {
            "images": self.images,
            "target": self.target,
            "classes": self.classes,
            "recording": self.recording == "must",
        }
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **self.Parameters.model_json_schema(),
            "title": self.name,
            "description": self.summary,
            "x-paper": asdict(self.paper),
            "x-kind": self.kind,
            "x-needs": [what for what, wanted in {**needs, "gradients": self.gradients}.items() if wanted],
        }


_METHODS = listing.REGISTERED
M = TypeVar("M", bound=type[Method[Any]])


def register(method: M) -> M:
    """Enter a method class into the registry.

    Raises:
        ValueError: the name is taken, or something that a method must say is missing.
    """
    for name in ("name", "summary", "paper", "kind"):
        if not getattr(method, name, None):
            raise ValueError(f"{method.__name__} does not say its {name}")
    for name, info in method.Parameters.model_fields.items():
        if not info.description:
            raise ValueError(f"parameter {name} of {method.__name__} has no description")
    held = _METHODS.get(method.name)
    if held is not None and type(held).__module__ != method.__module__:
        raise ValueError(f"a method {method.name!r} is registered by {type(held).__module__} already")
    _METHODS[method.name] = method()
    return method


def methods() -> dict[str, Method[Any]]:
    """Every registered method by name: those that come along, and those of installed packages."""
    return listing.everything()


def method(name: str) -> Method[Any]:
    """The method of that name.

    Raises:
        UsageError: there is none; the message offers the nearest.
    """
    found = listing.find(name)
    if found is None:
        known = methods()
        raise UsageError(f"no method {name!r}{nearest(name, known) or '; known: ' + ', '.join(known)}")
    return found
