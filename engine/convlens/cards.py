"""Cards: how pixels go into a model and what comes out, as TOML beside the file.

Every setting can also be given on the command line. What a card leaves out is taken from the file
where the file says it (layout, size, number of channels, labels in its metadata), or has the default
that is documented here. Normalisation has no default: a guess would give wrong answers silently.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from convlens.errors import CardError, nearest
from convlens.forms import Kind, Layout
from convlens.graph.graph import Graph

_WORDNET = re.compile(r"n\d{8}")
_STRICT = ConfigDict(extra="forbid", frozen=True)


class About(BaseModel):
    """The ``[model]`` table: what the model is and whose."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str | None = Field(None, description="name for people")
    file: str | None = Field(None, description="the ONNX file that the card belongs to")
    task: str | None = Field(None, description="classification, features, ...")
    licence: str | None = Field(None, description="licence of the weights")
    source: str | None = Field(None, description="where the weights come from")
    attribution: str | None = Field(None, description="text that the licence asks for")


class Input(BaseModel):
    """The ``[input]`` table: from a photo to what the model takes."""

    model_config = _STRICT

    name: str | None = Field(None, description="which input is explained; the likeliest by default")
    kind: Kind | None = Field(None, description="what the input holds; told from the graph by default")
    layout: Layout | None = Field(None, description="order of the axes; told from the graph by default")
    channels: Literal["RGB", "BGR", "GRAY"] | None = Field(
        None, description="order of the colours; RGB for three channels and GRAY for one by default"
    )
    size: tuple[int, ...] | None = Field(
        None, min_length=1, max_length=3, description="height and width in pixels; one length a spatial axis"
    )
    range: tuple[float, float] | None = Field(
        None, description="what pixels 0 and 255 become before mean and std; 0, 1 by default"
    )
    mean: tuple[float, ...] | None = Field(
        None, description="subtracted, one number or one a channel in the model's order"
    )
    std: tuple[float, ...] | None = Field(None, description="divided by, after mean")
    resize: Literal["crop", "stretch", "pad"] = Field(
        "crop", description="crop: shorter side, then centre; stretch: both sides; pad: longer side"
    )
    crop: float = Field(1.0, gt=0, le=1, description="with crop: share of the shorter side kept")
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = Field(
        "bilinear", description="resampling filter"
    )
    rate: float | None = Field(None, gt=0, description="of a signal: samples per second")
    pad: int | None = Field(None, description="of tokens: the id that stands for nothing; 0 by default")
    vocabulary: tuple[str, ...] | None = Field(
        None, description="of tokens: the word of each id, or a file of them"
    )

    @field_validator("mean", "std", "range", "size", mode="before")
    @classmethod
    def _one_number(cls, value: Any, info: Any) -> Any:
        if isinstance(value, (int, float)):
            return (value, value) if info.field_name == "size" else (value,)
        return value


class Output(BaseModel):
    """The ``[output]`` table: what the numbers mean."""

    model_config = _STRICT

    name: str | None = Field(None, description="the output with the class scores; the first by default")
    scores: Literal["logits", "probabilities", "sigmoid"] | None = Field(
        None, description="what the scores are; told from the last operator by default"
    )
    labels: tuple[tuple[str, ...], ...] | None = Field(
        None, description="class names, one name or a list of synonyms each; or a file of them"
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _each_with_synonyms(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return value
        return tuple((name,) if isinstance(name, str) else name for name in value)

    @field_validator("labels")
    @classmethod
    def _none_empty(cls, value: tuple[tuple[str, ...], ...] | None) -> tuple[tuple[str, ...], ...] | None:
        if value is not None and not all(value):
            raise ValueError("each class needs a name")
        return value


class Card(BaseModel):
    """How images go in and what outputs mean. See the module's text for what may be left out."""

    model_config = _STRICT

    model: About = About()
    input: Input = Input()
    output: Output = Output()
    feeds: dict[str, Any] = Field(
        default_factory=dict,
        description="inputs bound to constants, by name: a number, a list of them, or a .npy file",
    )

    @field_validator("feeds")
    @classmethod
    def _bindable(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, feed in value.items():
            if not isinstance(feed, (bool, int, float, list, str)):
                raise ValueError(f"{name} is no number, list of numbers or .npy file")
        return value

    @classmethod
    def load(cls, path: Path) -> Card:
        """The card at ``path``.

        Raises:
            CardError: not there, not TOML, or with a setting that does not exist or does not fit.
        """
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise CardError(f"{path}: the card cannot be read ({error.strerror})") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise CardError(f"{path}: not valid TOML ({error})") from error
        output = data.get("output")
        if isinstance(output, dict) and isinstance(output.get("labels"), str):
            output["labels"] = read_labels(path.parent / output["labels"])
        feeds = data.get("feeds")
        if isinstance(feeds, dict):
            data["feeds"] = {n: str(path.parent / v) if isinstance(v, str) else v for n, v in feeds.items()}
        given = data.get("input")
        if isinstance(given, dict) and isinstance(given.get("vocabulary"), str):
            given["vocabulary"] = [names[0] for names in read_labels(path.parent / given["vocabulary"])]
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: Mapping[str, Any], where: str = "card") -> Card:
        """A card from nested mappings; ``where`` names them in errors."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            hint = ""
            if first["type"] == "extra_forbidden":
                tables: dict[str, type[BaseModel]] = {"input": Input, "output": Output}
                table = tables.get(str(first["loc"][0]), cls)
                hint = nearest(str(first["loc"][-1]), table.model_fields)
                raise CardError(f"{where}: no setting {place!r}{hint}") from error
            why = first["msg"].removeprefix("Value error, ")
            why = why[:1].lower() + why[1:]
            raise CardError(f"{where}: {place} is {first['input']!r}; {why}") from error

    @classmethod
    def beside(cls, model: Path) -> Card | None:
        """The card that belongs to the model file: ``NAME.card.toml``, else ``card.toml`` beside it.

        A ``card.toml`` whose ``model.file`` names another file belongs to that one.
        """
        own = model.with_suffix(".card.toml")
        if own.is_file():
            return cls.load(own)
        shared = model.parent / "card.toml"
        if shared.is_file():
            card = cls.load(shared)
            if card.model.file in (None, model.name):
                return card
        return None

    def override(self, settings: Mapping[str, Any]) -> Card:
        """This card with single settings replaced, as ``--mean`` and the like give them."""
        data = self.model_dump()
        for key, value in settings.items():
            if value is None:
                continue
            table = "output" if key in ("labels", "scores") else "input"
            if key == "labels" and isinstance(value, (str, Path)):
                value = read_labels(Path(value))
            data[table][key] = value
        return Card.parse(data, "settings")

    def labels_for(self, graph: Graph) -> tuple[tuple[str, ...], ...] | None:
        """Class names with synonyms: the card's, else those that an exporter left in the file's metadata."""
        if self.output.labels is not None:
            return self.output.labels
        for key in ("names", "labels", "classes"):
            text = graph.metadata.get(key)
            if text is None:
                continue
            found = _literal(text)
            if isinstance(found, dict):
                try:
                    found = _in_order(found)
                except ValueError:
                    continue
            if isinstance(found, list) and all(isinstance(name, str) for name in found):
                return tuple((name,) for name in found)
        return None


def read_labels(path: Path) -> tuple[tuple[str, ...], ...]:
    """Class names from a JSON list, a JSON mapping of indices, or a text file with one a line.

    In JSON a class may be a list: its name, then synonyms. Keras' ``[wordnet id, name]`` is known too.

    Raises:
        CardError: it cannot be read as either.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: the labels cannot be read ({error})") from error
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        if path.suffix.lower() == ".json":
            raise CardError(f"{path}: not valid JSON ({error}); expected a list of class names") from error
        found = [line.strip() for line in text.splitlines() if line.strip()]
    if isinstance(found, dict):
        try:
            found = _in_order(found)
        except ValueError as error:
            raise CardError(f"{path}: expected class indices from 0 on as keys, {error}") from error
    if not isinstance(found, list) or not found:
        raise CardError(f"{path}: expected a list of class names")
    classes = [[name] if isinstance(name, str) else name for name in found]
    for names in classes:
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            raise CardError(f"{path}: expected a name or a list of names for each class, found {names!r}")
    return tuple(tuple(n[1:] if len(n) > 1 and _WORDNET.fullmatch(n[0]) else n) for n in classes)


def _in_order(classes: Mapping[Any, Any]) -> list[Any]:
    """Classes by index as a list. Raises ValueError where the indices are not 0, 1, 2 and so on."""
    by_index = {str(key): name for key, name in classes.items()}
    for index in range(len(classes)):
        if str(index) not in by_index:
            raise ValueError(f"found {len(classes)} keys and no {index}")
    return [by_index[str(index)] for index in range(len(classes))]


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return [part.strip() for part in text.split(",")] if "," in text else None
