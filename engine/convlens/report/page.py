"""The audit's page: one HTML file with everything in it, readable on a phone and on paper."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image

from convlens.graph.layers import shape_text
from convlens.pictures.colour import Scale, css, number
from convlens.pictures.layout import photo
from convlens.pictures.picture import Picture
from convlens.results import plain

if TYPE_CHECKING:
    from convlens.audit import Entry
    from convlens.registry import Images


@dataclass(frozen=True)
class Section:
    """One heading with the steps that stand side by side under it."""

    title: str
    entries: tuple[Entry, ...]

    @property
    def texts(self) -> list[tuple[str, str]]:
        """What to know before looking: each text once, with its step's title where there are several."""
        said = {entry.step.text: entry.step.title for entry in reversed(self.entries) if entry.step.text}
        return [(title if len(said) > 1 else "", text) for text, title in reversed(said.items())]

    @property
    def warnings(self) -> list[str]:
        """What is doubtful about its steps, each text once."""
        said = [text for entry in self.entries for text in entry.result.how.get("warnings", ())]
        return list(dict.fromkeys(said))

    @property
    def beside(self) -> bool:
        """Whether its steps are small pictures to be compared, which must not be torn apart."""
        maps = all(entry.result.kind == "map" for entry in self.entries)
        wide = any(picture.wide for entry in self.entries for picture in entry.result.pictures)
        return len(self.entries) > 1 and maps and not wide

    @property
    def per_image(self) -> bool:
        """Whether the section goes photo by photo; not where its pictures are of all of them."""
        return any(entry.result.images and not _of_all(entry) for entry in self.entries)


def _of_all(entry: Entry) -> bool:
    """Whether a step has pictures and each is of all images together."""
    pictures = entry.result.pictures
    return bool(pictures) and all(picture.index is None for picture in pictures)


def page(record: Mapping[str, Any], entries: Sequence[Entry], images: Images) -> str:
    """The whole page as HTML, with pictures embedded and no reference to anything outside its folder."""
    environment = templates()
    papers = dict.fromkeys(entry.method.paper.cite for entry in entries)
    views = [photo(view) for view in images.views] if images.views is not None else []
    html: str = environment.get_template("page.html").render(
        record=plain(record), sections=sections(entries), names=images.names, views=views, papers=papers
    )
    return html


def templates() -> Environment:
    """Where the pages' templates come from, with everything that they use."""
    environment = Environment(
        loader=PackageLoader("convlens.report"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        embed=embed,
        number=number,
        thousands=thousands,
        shape=_shape,
        percent=_percent,
        text=_text,
        fixed=_fixed,
    )
    environment.globals.update(
        template_for=lambda kind: _template(environment, kind), zip=zip, legend=_legend
    )
    return environment


def sections(entries: Sequence[Entry]) -> list[Section]:
    """Entries under their headings, in the order of the audit."""
    titles = dict.fromkeys(entry.step.section for entry in entries)
    return [Section(t, tuple(e for e in entries if e.step.section == t)) for t in titles]


def embed(picture: Picture | Image.Image, lossless: bool = False) -> str:
    """A picture as a data address, without loss where that is small or letters would suffer."""
    image = picture.image if isinstance(picture, Picture) else picture
    exact = lossless or (isinstance(picture, Picture) and picture.density > 1)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", lossless=exact or image.width * image.height <= 65536, quality=88)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def thousands(value: int | None) -> str:
    """A count as people read it: 385 million."""
    if value is None:
        return "not known"
    for size, word in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if value >= size:
            return f"{value / size:.3g} {word}"
    return str(value)


def _percent(value: float | None) -> str:
    return _fixed(value, ".1%" if value is not None and value < 0.1 else ".0%")


def _fixed(value: float | None, places: str) -> str:
    """A number in a given form; a dash for what is not a number, which JSON cannot hold."""
    return "-" if value is None else format(value, places)


def _text(value: Any) -> str:
    """A cell of a table."""
    if isinstance(value, float):
        return number(value)
    return "-" if value is None else str(value)


def _shape(value: Sequence[Any]) -> str:
    return shape_text(tuple(value))


def _legend(scale: Scale | None) -> Mapping[str, str] | None:
    if scale is None:
        return None
    low, high = scale.ends()
    return {"low": low, "high": high, "label": scale.label, "ramp": css(scale)}


def _template(environment: Environment, kind: str) -> str:
    """The template of a kind of Result; kinds that have none are shown as pictures and a table."""
    own = f"kinds/{kind}.html"
    return own if own in environment.list_templates() else "kinds/pictures.html"
