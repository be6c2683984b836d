"""Ways to run RISE on one image: one process each, see ``turns.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from turns_child import Work, serve


def convlens_way(settings: dict[str, Any], started: Callable[[], None]) -> Work:
    import onnxruntime

    import convlens

    assert onnxruntime
    started()
    model = convlens.load(settings["model"], device="cpu", threads=settings["threads"], kind="image")
    image = np.load(settings["image"])

    def work(masks: int, cells: int, keep: float, target: int) -> tuple[dict[str, Any], Any]:
        told = {"masks": masks, "cells": cells, "keep": keep, "fill": "0"}
        result = model.run("rise", image, target=target, **told)
        return {"count": masks}, result.array[0]

    return work


def dianna_way(settings: dict[str, Any], started: Callable[[], None]) -> Work:
    """The model's file as it is given, or a function around a session that is kept."""
    import dianna
    import onnxruntime
    from dianna.methods.rise_image import RISEImage

    assert RISEImage
    started()
    threads, image = settings["threads"], np.load(settings["image"])[0]
    made = onnxruntime.InferenceSession

    def session(path: str, sess_options: Any = None, **named: Any) -> Any:
        sess_options = sess_options or onnxruntime.SessionOptions()
        sess_options.intra_op_num_threads = threads  # it has no setting for it
        return made(path, sess_options, **named)

    onnxruntime.InferenceSession = session
    kept: list[Any] = []

    def function(x: Any) -> Any:
        if not kept:
            kept.append(session(settings["model"]))
        return kept[0].run(None, {kept[0].get_inputs()[0].name: x})[0]

    def softmax(scores: Any) -> Any:
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)

    def work(
        masks: int, cells: int, keep: float, target: int, batch: int | None
    ) -> tuple[dict[str, Any], Any]:
        given: Any = settings["model"] if batch is None else lambda x: softmax(function(x))
        more = {} if batch is None else {"batch_size": batch}
        np.random.seed(0)
        found = dianna.explain_image(
            given,
            image,
            method="RISE",
            labels=[target],
            n_masks=masks,
            feature_res=cells,
            p_keep=keep,
            axis_labels={0: "channels"},
            **more,
        )
        return {"count": masks}, np.asarray(found[0])

    return work


if __name__ == "__main__":
    serve({"convlens": convlens_way, "dianna": dianna_way})
