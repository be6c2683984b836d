"""Where onnxruntime runs: CUDA where there is one, else the CPU."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

from convlens.errors import ParameterError
from convlens.precision import PRECISIONS

DEVICES = ("auto", "cpu", "cuda")


@cache
def has_cuda() -> bool:
    """Whether a CUDA driver and onnxruntime's CUDA provider are both here."""
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return False
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
        count = ctypes.c_int(0)
        return bool(
            driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
        )
    except (OSError, AttributeError):
        return False


def resolve(device: str) -> str:
    """``cpu`` or ``cuda`` for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        ParameterError: not a device, or CUDA was asked for and is not there.
    """
    if device not in DEVICES:
        raise ParameterError(f"device is {device!r}; expected one of {', '.join(DEVICES)}")
    if device == "cuda" and not has_cuda():
        raise ParameterError(
            "device is 'cuda', but no CUDA driver answers or onnxruntime was built without it; "
            "use --device cpu"
        )
    return "cuda" if device == "cuda" or (device == "auto" and has_cuda()) else "cpu"


def check_precision(precision: str, device: str) -> None:
    """Look whether gradients can be taken in ``precision`` on ``device`` (``auto``, ``cpu`` or ``cuda``).

    Raises:
        ParameterError: it is no precision, or none for that device.
    """
    if precision not in PRECISIONS:
        raise ParameterError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    if precision == "float16" and resolve(device) != "cuda":
        raise ParameterError(
            "precision is 'float16', which is for CUDA, and the model runs on the CPU; use bfloat16"
        )


def providers(device: str) -> list[str]:
    """onnxruntime's providers for a resolved device, in order of preference."""
    if device == "cuda":
        import onnxruntime

        onnxruntime.preload_dlls()
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]
