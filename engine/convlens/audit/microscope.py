"""A close look at every channel of the recorded layers: pictures and facts, part by part.

What there is to see of a channel is for the methods to say (:meth:`convlens.registry.Method.look`); nothing
here knows one by name. A part is some channels of one layer. Its pictures are files of their own, written
before the list of what the part holds, so that an audit which was interrupted goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens import registry
from convlens.audit.folder import noted
from convlens.errors import ConvLensError
from convlens.pictures import by_channel
from convlens.pictures.picture import distinct
from convlens.registry import Close, Method, Step
from convlens.results import write

if TYPE_CHECKING:
    from convlens.model import Model
    from convlens.pictures.picture import Picture
    from convlens.recording.reading import Recording

FOLDER = "microscope"
_PART = 128  # channels
_LARGEST = 640  # pixels of a picture's longer side
_QUALITY = 85


@dataclass(frozen=True)
class Effort:
    """How many channels of each layer more than their patches and statistics are made of.

    Attributes:
        closer: on which some seconds are spent, such as for reconstructions.
        drawn: on which more is spent, such as for pictures that are made for them.
    """

    closer: int
    drawn: int


class Microscope:
    """All recorded layers of one model, in parts."""

    def __init__(
        self,
        model: Model,
        recording: Recording,
        folder: Path,
        effort: Effort,
        *,
        batch_size: int,
        seed: int,
        allow_uncertified: bool,
        own: bool = False,
    ) -> None:
        """Pictures go into ``folder``; ``own`` says whether the recording is of the audit's own inputs."""
        self._model = model
        self._recording = recording
        self._folder = folder
        self._how: dict[str, Any] = {
            "batch_size": batch_size,
            "seed": seed,
            "allow_uncertified": allow_uncertified,
        }
        self._source = "this audit" if own else Path(recording.manifest["source"]["text"]).name
        self._names = distinct([layer.alias for layer in recording.layers])
        self._effort = effort
        self._closer = [self._first(number) for number in range(len(recording.layers))]
        self._parts = list(self._planned())

    def __len__(self) -> int:
        """How many parts."""
        return len(self._parts)

    def run(self, advance: Callable[[int], None]) -> dict[str, Any]:
        """Look at everything; parts that are finished are read from disk.

        Args:
            advance: called with the number of parts that are done.

        Returns:
            What is to be seen, as plain data: ``layers``, in the order of the recording, each with ``layer``,
            ``page`` (below the report's folder), what is known of it, and ``units``: ``number``, ``facts``,
            ``marks`` and ``pictures`` (``file`` below the microscope's folder) of each channel.
        """
        layers: list[dict[str, Any]] = [
            {
                "layer": layer.alias,
                "page": f"{FOLDER}/{name}.html",
                "op": layer.op,
                "count": layer.channels,
                "said": [],
                "missing": [],
                "papers": [],
                "units": [],
            }
            for layer, name in zip(self._recording.layers, self._names, strict=True)
        ]
        for done, (number, close) in enumerate(self._parts):
            place = self._folder / self._names[number]
            place.mkdir(parents=True, exist_ok=True)

            def make(number: int = number, close: Close = close) -> dict[str, Any]:
                return self._look(number, close)

            found = noted(place, f"part-{close.channels[0]:04d}", make)
            for key in ("said", "missing", "papers", "units"):
                layers[number][key] += [one for one in found[key] if one not in layers[number][key]]
            advance(done + 1)
        manifest = self._recording.manifest
        return {
            "images": manifest["images"],
            "source": self._source,
            "k": manifest["plan"]["k"],
            "closer": self._effort.closer,
            "drawn": self._effort.drawn,
            "layers": layers,
        }

    def _first(self, number: int) -> list[int]:
        """The channels of a layer that are looked at first: those that stand out most and fire."""
        from convlens.recording.strongest.asked import ordered

        known = self._recording.strongest[number]
        top = min(9, known.value.shape[1])
        order = ordered(self._recording, number, "selective", top).tolist()
        return [channel for channel in order if known.image[channel, 0] >= 0 and known.value[channel, 0] > 0]

    def _planned(self) -> Iterator[tuple[int, Close]]:
        for number, layer in enumerate(self._recording.layers):
            closer, drawn = (self._closer[number][:n] for n in (self._effort.closer, self._effort.drawn))
            for start in range(0, layer.channels, _PART):
                own = tuple(range(start, min(start + _PART, layer.channels)))
                chosen = (tuple(channel for channel in some if channel in own) for some in (closer, drawn))
                yield number, Close(layer.alias, own, *chosen)

    def _steps(self, close: Close) -> list[tuple[Method[Any], Step]]:
        found = [
            (method, step)
            for method in registry.methods().values()
            for step in method.look(self._model, self._recording, close)
        ]
        return sorted(found, key=lambda pair: pair[1].order)

    def _look(self, number: int, close: Close) -> dict[str, Any]:
        """Everything about the channels of one part; pictures are written on the way."""
        units: dict[int, dict[str, Any]] = {
            channel: {"number": channel, "facts": {}, "marks": [], "pictures": []}
            for channel in close.channels
        }
        said, missing, papers = [], [], []
        for place, (method, step) in enumerate(self._steps(close)):
            try:
                result = self._model.run(
                    method.name,
                    None,
                    step.target,
                    recording=self._recording if method.recording != "no" else None,
                    **self._how,
                    **step.parameters,
                )
            except ConvLensError as error:
                missing.append(f"{step.title}: {' '.join(str(error).split())}")
                continue
            papers.append(method.paper.cite)
            said += [step.text] * bool(step.text)
            said += [f"{step.title[:1].upper()}{step.title[1:]}: {text}." for text in result.how["warnings"]]
            for channel, told in method.tell(result).items():
                if channel in units:
                    units[channel]["facts"] |= told.facts
                    units[channel]["marks"] += told.marks
            for channel, picture in by_channel(result):
                if channel in units:
                    name = f"{self._names[number]}/{channel:04d}-{place}.webp"
                    units[channel]["pictures"].append(self._written(picture, name))
        return {"units": list(units.values()), "said": said, "missing": missing, "papers": papers}

    def _written(self, picture: Picture, name: str) -> dict[str, Any]:
        """One picture in a file of its own."""
        image = picture.image
        if max(image.size) > _LARGEST:
            image = image.copy()
            image.thumbnail((_LARGEST, _LARGEST))
        write(self._folder / name, lambda file: image.save(file, "WEBP", quality=_QUALITY, method=2))
        return {
            "file": name,
            "alt": picture.alt,
            "caption": picture.caption,
            "width": image.width,
            "height": image.height,
        }


def summary(told: Mapping[str, Any]) -> dict[str, Any]:
    """What the report's record says of a microscope: all but the channels themselves."""
    layers = [{key: value for key, value in layer.items() if key != "units"} for layer in told["layers"]]
    marked = [sum(bool(unit["marks"]) for unit in layer["units"]) for layer in told["layers"]]
    each = [{**layer, "marked": count} for layer, count in zip(layers, marked, strict=True)]
    return {**told, "layers": each}
