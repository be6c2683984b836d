"""Ways to hide a patch everywhere and read a class's probability: one process each, see ``turns.py``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from turns_child import Work, serve


def convlens_way(settings: dict[str, Any], started: Callable[[], None]) -> Work:
    import onnxruntime

    import convlens

    assert onnxruntime
    started()
    device, threads = settings.get("device", "cpu"), settings["threads"]
    model = convlens.load(settings["model"], device=device, threads=threads, kind="image")
    image = np.load(settings["image"])

    def work(
        patch: int, stride: list[int], target: int, exact: str, batch: int | None = None
    ) -> tuple[dict[str, Any], Any]:
        told: dict[str, Any] = {"patch": patch, "stride": tuple(stride), "fill": "0", "exact": exact}
        told |= {"batch_size": batch} if batch is not None else {}
        result = model.run("occlusion", image, target=target, **told)
        rows, columns = (result.arrays[f"{axis}_at"].tolist() for axis in model.source.axis_names)
        way = result.hints["each"][0]["computed"]
        count = 1 + len(rows) * len(columns)
        return {"rows": rows, "columns": columns, "way": way, "count": count}, result.array[0]

    return work


def onnxruntime_way(settings: dict[str, Any], started: Callable[[], None]) -> Work:
    import onnxruntime

    started()
    session = _session(onnxruntime, settings)
    image = np.load(settings["image"])
    name = session.get_inputs()[0].name

    def work(
        patch: int, places: list[list[int]], target: int | None, batch: int
    ) -> tuple[dict[str, Any], Any]:
        whole = _softmax(session.run(None, {name: image})[0])[0]
        chosen = int(whole.argmax()) if target is None else target
        found = np.empty(len(places))
        block = np.repeat(image, batch, axis=0)
        for start in range(0, len(places), batch):
            part = places[start : start + batch]
            for row, (top, left) in enumerate(part):
                block[row, :, top : top + patch, left : left + patch] = 0
            scores = session.run(None, {name: block[: len(part)]})[0]
            found[start : start + len(part)] = _softmax(scores)[:, chosen]
            for row, (top, left) in enumerate(part):
                window = (..., slice(top, top + patch), slice(left, left + patch))
                block[row][window] = image[0][window]
        return {"target": chosen, "whole": float(whole[chosen])}, found

    return work


def forward_way(settings: dict[str, Any], started: Callable[[], None]) -> Work:
    """Nothing but forwards of arrays that are ready."""
    import onnxruntime

    started()
    session = _session(onnxruntime, settings)
    shape = np.load(settings["image"]).shape[1:]
    name = session.get_inputs()[0].name
    ready: dict[int, Any] = {}

    def work(count: int, batch: int) -> tuple[dict[str, Any], Any]:
        if batch not in ready:
            ready[batch] = np.random.default_rng(0).normal(size=(batch, *shape)).astype(np.float32)
        for _ in range(0, count, batch):
            session.run(None, {name: ready[batch]})
        return {"count": -(-count // batch) * batch}, None

    return work


def captum_way(settings: dict[str, Any], started: Callable[[], None]) -> Work:
    import torch
    from peers_nets import native, torchvision

    torchvision()
    from captum.attr import Occlusion

    torch.set_num_threads(settings["threads"])
    started()
    device = settings.get("device", "cpu")
    net = native(settings["folder"], settings["name"], device)
    if settings["channels_last"]:
        net = net.to(memory_format=torch.channels_last)
    image = torch.from_numpy(np.load(settings["image"])).to(device)
    if settings["channels_last"]:
        image = image.contiguous(memory_format=torch.channels_last)

    class Part(Occlusion):  # type: ignore[misc,unused-ignore]
        """Captum's own loop over some of its positions; ``numbers`` None is all of them."""

        numbers: list[int] | None = None

        def _get_feature_idx_to_tensor_idx(self, *given: Any, **named: Any) -> Any:
            every = super()._get_feature_idx_to_tensor_idx(*given, **named)
            return every if self.numbers is None else {number: every[number] for number in self.numbers}

    occlusion = Part(lambda x: net(x).softmax(dim=1))

    def work(
        patch: int, stride: int, target: int, batch: int, places: list[list[int]] | None
    ) -> tuple[dict[str, Any], Any]:
        across = [-(-(side - patch) // stride) + 1 for side in image.shape[2:]]
        occlusion.numbers = None  # it counts rows first
        if places is not None:
            occlusion.numbers = [top // stride + across[0] * (left // stride) for top, left in places]
        with torch.inference_mode():
            found = occlusion.attribute(
                image,
                strides=(3, stride, stride),
                sliding_window_shapes=(3, patch, patch),
                baselines=0,
                target=target,
                perturbations_per_eval=batch,
            )
        return {}, np.nan_to_num(found[0, 0].cpu().numpy())  # 0 / 0 where no position lies

    return work


def _session(onnxruntime: Any, settings: dict[str, Any]) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    options.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    if settings.get("device", "cpu") == "cuda":
        onnxruntime.preload_dlls()
        providers = ["CUDAExecutionProvider"]
    return onnxruntime.InferenceSession(str(Path(settings["model"])), options, providers=providers)


def _softmax(scores: Any) -> Any:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    serve(
        {
            "convlens": convlens_way,
            "onnxruntime": onnxruntime_way,
            "forward": forward_way,
            "captum": captum_way,
        }
    )
