"""Every method that says where, on the same images and for the same target: one sheet and one table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convlens.attribution.faithful.judged import attributing, refusal
from convlens.attribution.faithful.settings import settings_of
from convlens.attribution.faithful.verdicts import Judge
from convlens.attribution.maps import heat
from convlens.errors import ConvLensError, ParameterError, UncertifiedError
from convlens.registry import Images, Method, method
from convlens.results import Result, plain, write
from convlens.running import settle

if TYPE_CHECKING:
    from convlens.inputs import Inputs
    from convlens.model import Model
    from convlens.pictures.picture import Picture
    from convlens.targets import Spec

_MARKED = ("same", "worse")


@dataclass(frozen=True)
class Way:
    """One method with settings, under a label of its own."""

    label: str
    method: Method[Any]
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class SideBySide:
    """Maps of several methods.

    Attributes:
        target: what is explained, for people.
        targets: what that is on each image.
        images: names of the images.
        results: the Result of each method that ran, by label.
        refused: why the others did not, by label.
        verdicts: of each that was judged, see :class:`convlens.attribution.faithful.verdicts.Judge`.
        views: what the model saw, of photos.
    """

    target: str
    targets: tuple[str, ...]
    images: tuple[str, ...]
    results: Mapping[str, Result]
    refused: Mapping[str, str]
    verdicts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    views: Any = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One row a method: how it did against a random order and with random weights, best deletion first.

        ``random weights`` is the rank correlation with the map of a network whose upper half is random.
        Without verdicts, what ran and what did not. A method that does not beat random is marked.
        """
        if not self.verdicts:
            ran = [{"method": label, "state": "drawn"} for label in self.results]
            return [*ran, *({"method": label, "state": why} for label, why in self.refused.items())]
        rows = []
        for label, verdict in self.verdicts.items():
            order, random = verdict["order"], verdict["random"]
            rows.append(
                {
                    "method": label,
                    "deletion": order["deletion"],
                    "insertion": order["insertion"],
                    "random weights": random.get("alike"),
                    "verdict": _said(order["outcome"], random["outcome"]),
                }
            )
        rows.sort(key=lambda row: (row["deletion"] is None, row["deletion"] or 0.0))
        order = next(iter(self.verdicts.values()))["order"]
        for label, name in (("random order", "random"), ("centred Gaussian", "centre")):
            rows.append(
                {
                    "method": f"[{label}]",
                    "deletion": order[f"deletion_{name}"],
                    "insertion": order[f"insertion_{name}"],
                    "random weights": None,
                    "verdict": "baseline",
                }
            )
        for label, why in self.refused.items():
            rows.append(dict.fromkeys(rows[0]) | {"method": label, "verdict": f"refused: {why}"})
        return rows

    @property
    def pictures(self) -> list[Picture]:
        """The sheet: rows are images and columns methods; of long inputs one sheet an image."""
        from convlens.pictures.sidebyside import sheets

        columns = {label: result.pictures for label, result in self.results.items()}
        doubted = {
            label
            for label, verdict in self.verdicts.items()
            if verdict["order"]["outcome"] in _MARKED or verdict["random"]["outcome"] == "stays"
        }
        rows = [
            name if words == self.target else f"{name}: {words}"
            for name, words in zip(self.images, self.targets, strict=True)
        ]
        return sheets(columns, self.refused, rows, self.target, self.views, doubted)

    def record(self) -> dict[str, Any]:
        """Everything but the arrays as plain data."""
        found = {
            "target": self.target,
            "targets": list(self.targets),
            "images": list(self.images),
            "rows": self.rows,
            "verdicts": self.verdicts,
            "refused": self.refused,
            "results": {label: result.record() for label, result in self.results.items()},
        }
        return dict(plain(found))

    def save(self, folder: Path) -> list[Path]:
        """Write the sheets, ``attribute.json`` and each method's arrays; returns the paths."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for picture in self.pictures:
            path = folder / f"{picture.name}.png"
            write(path, partial(picture.image.save, format="PNG"))
            written.append(path)
        for number, result in enumerate(self.results.values()):
            stem = f"{number:02d}-{result.method}"
            written += result.save(folder / "results", stem, pictures=False)
        text = json.dumps(self.record(), indent=1, ensure_ascii=False)
        path = folder / "attribute.json"
        write(path, lambda file: file.write(text.encode()))
        return [*written, path]


def ways(model: Model, methods: str | Sequence[str], quick: bool = False) -> list[Way]:
    """The methods asked for.

    Args:
        model: the model.
        methods: ``all``, or names; ``name:rule=guided`` gives settings, several with ``;`` between. With
            ``all``, a method comes once at its defaults and once for each other setting that it plans for
            an audit.
        quick: take each method's quick, coarse settings.

    Raises:
        UsageError: there is no such method.
        ParameterError: it does not say where, or cannot take these settings.
    """
    found: list[Way] = []
    if methods == "all":
        for name in attributing():
            own = method(name)
            steps = own.plan(model)
            planned = [(f"{name}: {step.title}", dict(step.parameters)) for step in steps if len(steps) > 1]
            given: list[tuple[str, dict[str, Any]]] = [(name, {}), *planned]
            seen: list[Any] = []
            for label, parameters in given:
                parsed = own.parse(parameters)
                if parsed not in seen:
                    seen.append(parsed)
                    found.append(Way(label, own, {**parameters, **(own.preview if quick else {})}))
        return found
    texts = [part.strip() for part in methods.split(",")] if isinstance(methods, str) else list(methods)
    for text in texts:
        name, _, settings = text.partition(":")
        own = method(name)
        if not own.attributes:
            known = ", ".join(attributing())
            raise ParameterError(f"{name} does not say where in the input; those that do: {known}")
        parameters = _given(settings)
        own.parse(parameters)
        label = f"{name}: {settings}" if settings else name
        if label not in [way.label for way in found]:
            found.append(Way(label, own, {**(own.preview if quick else {}), **parameters}))
    return found


def side_by_side(
    model: Model,
    images: Inputs,
    target: Spec = None,
    methods: str | Sequence[str] = "all",
    *,
    quick: bool = False,
    faithfulness: bool = False,
    batch_size: int = 4,
    seed: int = 0,
    allow_uncertified: bool = False,
    progress: Callable[[float], None] = lambda _share: None,
) -> SideBySide:
    """Run several methods on the same images and for the same target.

    Args:
        model: the model.
        images: as for :meth:`Model.run`.
        target: what to explain; the predicted class of each image without it.
        methods: see :func:`ways`.
        quick: quick, coarse settings for each.
        faithfulness: whether each map is held against random orders and random weights.
        batch_size: images in one forward.
        seed: for everything random.
        allow_uncertified: run although PyTorch and onnxruntime disagree.
        progress: called with the share that is done.

    Raises:
        UncertifiedError: the certificate failed and ``allow_uncertified`` is false.
        ConvLensError: target, images or methods do not fit, or every method refuses.
    """
    chosen = ways(model, methods, quick)
    batch: Images = images if isinstance(images, Images) else model.images(images)
    certificate = model.certificate()
    if not certificate.passed and not allow_uncertified:
        raise UncertifiedError(f"{certificate.words()} --allow-uncertified runs them all the same")
    free = next((way.method for way in chosen if not way.method.gradients), chosen[0].method)
    goal = settle(model, free, target, batch, batch_size)
    assert goal is not None
    judge = Judge(model, batch, goal, batch_size=batch_size, seed=seed, steps=14, random=5, insertion=True)
    results: dict[str, Result] = {}
    refused: dict[str, str] = {}
    verdicts: dict[str, Mapping[str, Any]] = {}
    each = 2 if faithfulness else 1
    for number, way in enumerate(chosen):

        def advance(share: float, number: int = number) -> None:
            progress((number + share / each) / len(chosen))

        try:
            results[way.label] = model.run(
                way.method.name,
                batch,
                target,
                batch_size=batch_size,
                seed=seed,
                allow_uncertified=allow_uncertified,
                progress=advance,
                **way.parameters,
            )
        except ConvLensError as error:
            refused[way.label] = refusal(error)
            continue
        if faithfulness:
            maps = heat(results[way.label], model.source)
            verdicts[way.label] = judge.verdict(way.method, way.parameters, maps)
        progress((number + 1) / len(chosen))
    progress(1.0)
    if not results:
        label, why = next(iter(refused.items()))
        raise ConvLensError(f"no method can explain it; {label}: {why}")
    targets = tuple(goal.words(i) for i in range(len(batch)))
    return SideBySide(goal.text, targets, batch.names, results, refused, verdicts, batch.views)


def _given(settings: str) -> dict[str, Any]:
    try:
        return dict(settings_of(settings.replace(";", " ")))
    except ValueError as error:
        raise ParameterError(f"settings {settings!r}: {error}") from None


def _said(order: str, random: str) -> str:
    """Two words for the table; what speaks against a map is marked."""
    words = {
        "better": "beats random",
        "same": "! not clearly better than random",
        "worse": "! worse than random",
        "unknown": "order not measurable",
    }[order]
    return words + ("; ! stays with random weights" if random == "stays" else "")
