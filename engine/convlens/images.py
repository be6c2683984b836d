"""Photos from disk, whatever their mode, depth or orientation, as plain 8-bit RGB or grey."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from convlens.errors import ImageError, UsageError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}
)


def expand(paths: Iterable[str | Path], suffixes: Sequence[frozenset[str]] = (SUFFIXES,)) -> list[Path]:
    """Files as they are, folders as the pictures in them (sorted, subfolders included).

    Args:
        paths: files and folders.
        suffixes: what is taken from a folder: files of the first group of which it holds any.

    Raises:
        UsageError: a path that does not exist, or a folder with nothing that is taken.
    """
    every = ", ".join(sorted(frozenset().union(*suffixes)))
    what = "pictures" if suffixes[0] == SUFFIXES else "inputs for this model"
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file())
            groups = ([p for p in inside if p.suffix.lower() in group] for group in suffixes)
            chosen: list[Path] = next(filter(None, groups), [])
            if not chosen:
                raise UsageError(f"{path}: a folder without {what}; expected {every}")
            found += chosen
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"{path}: no such file; expected a picture or a folder of pictures")
    return found


def read_image(given: str | Path | bytes, name: str | None = None) -> Image.Image:
    """A picture, upright, as mode RGB or L with 8 bits.

    Args:
        given: a file, or what stands in one.
        name: what a message calls it; the file without it.

    Raises:
        ImageError: it cannot be decoded; the message names it and the reason.
    """
    from PIL import Image, UnidentifiedImageError

    said = name or ("a picture" if isinstance(given, bytes) else given)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about metadata that does not matter here
            with Image.open(io.BytesIO(given) if isinstance(given, bytes) else given) as image:
                image.load()
                return flatten(image)
    except ImageError as error:
        raise ImageError(f"{said}: {error}") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{said}: not a picture that can be decoded") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{said}: cannot be decoded ({error})") from error


def flatten(image: Image.Image) -> Image.Image:
    """Upright, 8 bits, RGB or L.

    EXIF orientation is applied. Palettes are looked up. 16-bit greys are scaled, not clipped.
    Transparency is laid over white, as a browser shows it. Of an animation the first frame is taken.

    Raises:
        ImageError: real-valued or 32-bit pixels, whose range the file does not tell.
    """
    import numpy as np
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip at 255
        deep = np.asarray(image).astype(np.float64)
        if deep.min(initial=0) < 0 or deep.max(initial=0) > 65535:
            raise ImageError("32-bit pixels without a known range; save the picture with 8 or 16 bits")
        return Image.fromarray(np.clip(np.rint(deep / 257.0), 0, 255).astype(np.uint8))
    if image.mode == "F":
        raise ImageError("real-valued pixels without a known range; save the picture with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, (255, 255, 255, 255))
        flat = Image.alpha_composite(white, over).convert("RGB")
        return flat.convert("L") if image.mode in ("LA", "La") else flat
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.convert("RGB")
