"""A model's certificate: what is fed to it, and where the outcome is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convlens import cache, catalogue
from convlens.errors import CardError, ImageError, UnsupportedError
from convlens.graph import bind
from convlens.trust.certificate import TOLERANCE, Certificate, certify, random_input
from convlens.trust.openaxes import find_size
from convlens.trust.original import held_against_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convlens.model import Model

_HARMLESS = {"IR version raised"}
"""What normalising does that rewrites no node and no value."""


def certificate_of(model: Model, seed: int) -> Certificate:
    """The certificate of ``model``: from the cache where this code made it for this file, else made now.

    Raises:
        UnsupportedError: the graph cannot be built or run in one of the two executors.
    """
    key = cache.key_of(
        model.sha256,
        model.card.input.model_dump(),
        bind.record(model.graph.bound),
        seed,
        TOLERANCE,
        model.runner.device,
        cache.versions(),
        cache.sources(),
    )
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
    key = cache.key_of(
        model.sha256,
        model.card.input.model_dump(),
        bind.record(model.graph.bound),
        model.runner.device,
        cache.versions(),
        cache.sources(),
    )
    return find_size(model.runner, model.source, model.card.input.size, key)


def _made(model: Model, seed: int) -> Certificate:
    size, batch = size_of(model)
    random = random_input(model.graph, model.source, size, seed, batch)
    said = "" if None not in model.source.size else f" {'x'.join(map(str, random[model.source.name].shape))}"
    fed: dict[str, Mapping[str, NDArray[Any]]] = {f"random input{said} (seed {seed})": random}
    if len(model.graph.inputs) == 1:
        try:
            photo = next(iter(catalogue.photos()), None)
            if photo is not None:
                fed[f"photo {photo.name}"] = {model.source.name: model.images([photo]).array}
        except (CardError, ImageError, UnsupportedError):
            pass  # no card, no photo: the random input alone is compared
    single, runner = model.instrument(), model.runner.whole()
    found = certify(single, runner, fed, exact=lambda: model.instrument("float64"))
    if set(model.graph.changes) <= _HARMLESS:
        return found
    # what a pass rewrote is held against the file itself, by onnxruntime alone
    first = next(iter(fed))
    held = held_against_file(model.path, model.runner, first, fed[first])
    return replace(found, checks=(*found.checks, *held))
