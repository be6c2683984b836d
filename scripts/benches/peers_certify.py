"""Loads a model and certifies it, so that later processes find the certificate in the cache."""

from __future__ import annotations

from typing import Any

from turns_child import Work, serve


def certify(settings: dict[str, Any], _started: Any) -> Work:
    import convlens

    model = convlens.load(settings["model"], device="cpu", threads=settings["threads"], kind="image")
    model.certificate()
    model.batching()
    return lambda: ({}, None)


if __name__ == "__main__":
    serve({"certify": certify})
