"""A model's certificate and how it stands to its file: what is fed, and where the outcome is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from convlens import cache, catalogue
from convlens.errors import CardError, ImageError, UnsupportedError
from convlens.graph import bind
from convlens.trust.certificate import TOLERANCE, Certificate, certify, random_input
from convlens.trust.checks import Check
from convlens.trust.openaxes import find_size
from convlens.trust.original import held_against_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model


def certificate_of(model: Model, seed: int) -> Certificate:
    """The certificate of ``model``: from the cache where this code made it for this file, else made now.

    Raises:
        UnsupportedError: the graph cannot be built or run in one of the two executors.
    """
    key = _key(model, seed, TOLERANCE)
    kept = cache.get("certificates", key)
    if kept is not None:
        try:
            return Certificate.restore(kept)
        except (KeyError, TypeError):
            pass  # damaged; made again below
    certificate = _made(model, seed)
    cache.put("certificates", key, certificate.record())
    return certificate


def size_of(model: Model) -> tuple[tuple[int, ...] | None, int]:
    """The size at which a model is tried, and how many images at once.

    Raises:
        UnsupportedError: onnxruntime runs it at none of those that are tried.
    """
    return find_size(model.runner, model.source, model.card.input.size, _key(model))


def against_file(model: Model, seed: int) -> tuple[Check, ...]:
    """Every output of the graph that is run held against the file as it lies on disk, on a random input.

    From the cache where this code did it for this file, else done now. A file that onnxruntime does not
    run as it lies gives one check that passes, with a note.

    Raises:
        UnsupportedError: onnxruntime does not run the graph.
    """
    key = _key(model, seed, TOLERANCE)
    kept = cache.get("originals", key)
    if isinstance(kept, dict) and isinstance(kept.get("checks"), list):
        try:
            return tuple(Check(**check) for check in kept["checks"])
        except TypeError:
            pass  # damaged; made again below
    fed, label = _random(model, seed)
    checks = tuple(held_against_file(model.path, model.runner, label, fed))
    cache.put("originals", key, {"checks": [asdict(check) for check in checks]})
    return checks


def _key(model: Model, *more: Any) -> str:
    return cache.key_of(
        model.sha256,
        model.card.input.model_dump(),
        bind.record(model.graph.bound),
        *more,
        model.runner.device,
        cache.versions(),
        cache.sources(),
    )


def _random(model: Model, seed: int) -> tuple[dict[str, NDArray[Any]], str]:
    """A random input, and what it is called."""
    size, batch = size_of(model)
    random = random_input(model.graph, model.source, size, seed, batch)
    said = "" if None not in model.source.size else f" {'x'.join(map(str, random[model.source.name].shape))}"
    return random, f"random input{said} (seed {seed})"


def _made(model: Model, seed: int) -> Certificate:
    random, label = _random(model, seed)
    fed: dict[str, Mapping[str, NDArray[Any]]] = {label: random}
    if len(model.graph.inputs) == 1:
        try:
            photo = next(iter(catalogue.photos()), None)
            if photo is not None:
                fed[f"photo {photo.name}"] = {model.source.name: model.images([photo]).array}
        except (CardError, ImageError, UnsupportedError):
            pass  # no card, no photo: the random input alone is compared
    single, runner = model.instrument(), model.runner.whole()
    found = certify(single, runner, fed, exact=lambda: model.instrument("float64"))
    return replace(found, checks=(*found.checks, *model.against_file(seed)))
