"""Ways to explain by gradients: one process each, see ``turns.py``; each knows some of the jobs.

The peers' ways run torchvision's own model, weights frozen, in the memory layout that they are asked for.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any

import numpy as np
from turns_child import Work, serve

_LAYERS = {  # whose output the last rectifier or join gives
    "vgg16": "features.29",
    "googlenet": "inception5b",
    "squeezenet1_1": "features.12",
    "resnet18": "layer4",
    "resnet50": "layer4",
    "mobilenet_v2": "features",
    "inception_v3": "Mixed_7c",
    "efficientnet_b0": "features",
}
_HIDDEN = 12544  # numbers that Quantus hides in a step: a quarter of an image of 224 pixels


def convlens_way(settings: dict[str, Any], started: Callable[[], None]) -> Work:
    import onnxruntime
    import torch

    import convlens

    assert onnxruntime
    torch.set_num_threads(settings["threads"])
    started()
    device, threads = settings.get("device", "cpu"), settings["threads"]
    model = convlens.load(settings["model"], device=device, threads=threads, kind="image")
    images = np.load(settings["image"])

    def once(job: str, count: int, batch: int | None = None) -> tuple[int, Any]:
        x = np.repeat(images, count, axis=0) if job != "classes" else images
        size = batch or min(count, 8)
        if job in ("saliency", "guided"):
            rule = "plain" if job == "saliency" else "guided"
            result = model.run("saliency", x, target=0, rule=rule, batch_size=size)
            return count, result.arrays["gradient"]
        if job == "classes":
            return count, classes(count)
        if job == "grad-cam":
            return count, model.run("grad-cam", x, target=0, batch_size=size).arrays["map"]
        if job == "integrated":
            way: dict[str, Any] = {"quadrature": "gauss-legendre", "steps": count, "baseline": "0"}
            result = model.run("integrated-gradients", images, target=0, batch_size=size, **way)
            return count, result.arrays["shares"]
        if job == "trips":
            return count, trips(count)
        assert job == "flipping"
        steps = images[0].size // _HIDDEN
        way = {"of": "saliency", "steps": steps, "random": 2, "stages": 0, "samples": 0, "fill": "0"}
        model.run("faithfulness", x, target=0, **way)
        return 3 * 4 * (steps + 1) * count, None  # curves, orders, points

    def classes(count: int) -> Any:
        from convlens.instrument.several import input_gradients

        targets = [model.target(each) for each in range(count)]
        return input_gradients(model, images, targets, "plain", 8)[0][:, 0]

    def trips(count: int) -> Any:
        """How often the host waits for the device in a batch, or asks for a number where both are one."""
        found = []
        for batches in (1, 3):
            x = np.repeat(images, batches * count, axis=0)
            with _waits(torch, device) as waits:
                model.run("saliency", x, target=0, batch_size=count)
            found.append(waits())  # a profile is read when it has ended
        return np.array([(found[1] - found[0]) / 2])

    return _repeated(once)


@contextlib.contextmanager
def _waits(torch: Any, device: str) -> Iterator[Callable[[], int]]:
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("warn")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield lambda: sum("synchroniz" in str(each.message) for each in caught)
        torch.cuda.set_sync_debug_mode("default")
        return
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        yield lambda: sum(
            each.count for each in profile.key_averages() if each.key == "aten::_local_scalar_dense"
        )


def torch_way(settings: dict[str, Any], started: Callable[[], None]) -> Work:
    """A forward and a backward, nothing else."""
    torch, net, images = _native(settings, started)

    def once(job: str, count: int, last: bool = False, **_: Any) -> tuple[int, Any]:
        x = images if job == "classes" else images.expand(count, -1, -1, -1)
        x = _laid(torch, net, x, last).requires_grad_()
        scores = net(x)
        if job != "classes":
            (found,) = torch.autograd.grad(scores[:, 0].sum(), x)
            return count, found.cpu().numpy()
        parts = [
            torch.autograd.grad(scores[0, each], x, retain_graph=each + 1 < count)[0] for each in range(count)
        ]
        return count, torch.cat(parts).cpu().numpy()

    return _repeated(once)


def captum_way(settings: dict[str, Any], started: Callable[[], None]) -> Work:
    from peers_nets import torchvision

    torchvision()
    from captum import attr

    torch, net, images = _native(settings, started)

    def once(job: str, count: int, last: bool = False, batch: int | None = None) -> tuple[int, Any]:
        x = _laid(torch, net, images, last)
        if job == "guided":
            return count, attr.GuidedBackprop(net).attribute(
                x.requires_grad_(), target=0
            ).detach().cpu().numpy()
        if job == "grad-cam":
            layer = attrgetter(_LAYERS[settings["name"]])(net)
            x.requires_grad_()  # its weights are frozen
            cam = attr.LayerGradCam(net, layer).attribute(x, target=0, relu_attributions=True)
            wide = attr.LayerAttribution.interpolate(cam, tuple(x.shape[2:]), "bilinear")
            return count, wide[:, 0].detach().cpu().numpy()
        assert job == "integrated"
        found = attr.IntegratedGradients(net).attribute(
            x,
            target=0,
            n_steps=count,
            method="gausslegendre",
            internal_batch_size=batch,
        )
        return count, found.detach().cpu().numpy()

    return _repeated(once)


def gradcam_way(settings: dict[str, Any], started: Callable[[], None]) -> Work:
    """The package pytorch-grad-cam."""
    from peers_nets import torchvision

    torchvision()
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    torch, net, images = _native(settings, started)
    layers = [attrgetter(_LAYERS[settings["name"]])(net)]
    cam: list[Any] = []
    guided: list[Any] = []

    def once(job: str, count: int, last: bool = False, **_: Any) -> tuple[int, Any]:
        x = _laid(torch, net, images, last)
        if job == "grad-cam":
            if not cam:
                cam.append(pytorch_grad_cam.GradCAM(net, layers))
            return count, cam[0](x.requires_grad_(), [ClassifierOutputTarget(0)])
        assert job == "guided"
        if not guided:
            guided.append(pytorch_grad_cam.GuidedBackpropReLUModel(net, device="cpu"))
        return count, guided[0](x.requires_grad_(), 0).transpose(2, 0, 1)[None]

    return _repeated(once)


def quantus_way(settings: dict[str, Any], started: Callable[[], None]) -> Work:
    from peers_nets import torchvision

    torchvision()
    import quantus

    torch, net, images = _native(settings, started)

    def once(job: str, count: int, last: bool = False, **_: Any) -> tuple[int, Any]:
        assert job == "flipping"
        x = images.repeat(count, 1, 1, 1)
        copied = _laid(torch, net, x, last).requires_grad_()
        (gradient,) = torch.autograd.grad(net(copied)[:, 0].sum(), copied)
        metric = quantus.PixelFlipping(
            features_in_step=_HIDDEN, perturb_baseline="black", disable_warnings=True
        )
        with torch.inference_mode():
            curves = metric(
                model=net,
                x_batch=x.numpy(),
                y_batch=np.zeros(count, int),
                a_batch=gradient.abs().amax(dim=1, keepdim=True).numpy(),
                device="cpu",
                batch_size=count,
            )
        return sum(len(curve) for curve in curves), None

    return _repeated(once)


def _native(settings: dict[str, Any], started: Callable[[], None]) -> tuple[Any, Any, Any]:
    """torch, torchvision's model and the image."""
    import torch
    from peers_nets import native, torchvision

    torchvision()
    torch.set_num_threads(settings["threads"])
    started()
    device = settings.get("device", "cpu")
    net = native(settings["folder"], settings["name"], device)
    for part in net.modules():
        if isinstance(part, torch.nn.ReLU):
            part.inplace = False  # hooks of the peers do not bear it
    return torch, net, torch.from_numpy(np.load(settings["image"])).to(device)


def _laid(torch: Any, net: Any, x: Any, last: bool) -> Any:
    """A copy of the input in one memory layout, the network brought into the same."""
    layout = torch.channels_last if last else torch.contiguous_format
    net.to(memory_format=layout)
    return x.clone(memory_format=layout)


def _repeated(once: Callable[..., tuple[int, Any]]) -> Work:
    def work(repeat: int, **asked: Any) -> tuple[dict[str, Any], Any]:
        done, found = 0, None
        for _ in range(repeat):
            more, found = once(**asked)
            done += more
        return {"count": done}, found

    return work


if __name__ == "__main__":
    serve(
        {
            "convlens": convlens_way,
            "torch": torch_way,
            "captum": captum_way,
            "gradcam": gradcam_way,
            "quantus": quantus_way,
        }
    )
