"""Where onnxruntime runs: CUDA where there is one, else the CPU."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

from convlens.errors import ParameterError

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


def providers(device: str) -> list[str]:
    """onnxruntime's providers for a resolved device, in order of preference."""
    if device == "cuda":
        import onnxruntime

        onnxruntime.preload_dlls()
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    return ["CPUExecutionProvider"]
