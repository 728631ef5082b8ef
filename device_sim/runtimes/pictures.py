"""PNG and JPEG files as arrays of pixels, decoded within bounds."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from device_sim.mil.types import Array
from personality_common.coreml.features import Feature
from personality_common.errors import DataError
from personality_common.files.bounded import read_bounded

SUFFIXES: Final = (".png", ".jpg", ".jpeg")
MAX_BYTES: Final = 64 << 20
MAX_PIXELS: Final = 1 << 26
_COLOR: Final = ("RGB", "RGBA", "P", "L", "LA", "1")
_GRAY: Final = ("L", "LA", "1")
"""Modes that become gray without a choice of weights for the colors."""


def read_picture(path: Path, feature: Feature) -> Array:
    """Read an image as its feature is described. Resizing and turning is the caller's.

    Returns:
        (channels, height, width) uint8, in the feature's color space; transparency is ignored.

    Raises:
        DataError: neither PNG nor JPEG, damaged, of another size or color than described, or too large.
    """
    from PIL import Image, UnidentifiedImageError

    data = read_bounded(path, MAX_BYTES, "an image")
    gray = _mode(feature) == "L"
    try:
        with _quiet(), Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            width, height = image.size
            # Before anything is decoded: a file of some kB can hold billions of pixels.
            if not feature.accepts((height, width)) or width * height > MAX_PIXELS:
                raise DataError(
                    f"{path}: image {feature.name!r} must be {feature.shape_text} (height, width), at most "
                    f"{MAX_PIXELS:,} pixels, is ({height}, {width}); resize it before"
                )
            if image.mode not in (_GRAY if gray else _COLOR):
                wanted = "gray" if gray else "in color or gray, of 8 bits"
                raise DataError(f"{path}: image {feature.name!r} must be {wanted}, its mode is {image.mode}")
            return to_pixels(image, feature)
    except Image.DecompressionBombError:
        raise DataError(f"{path}: image {feature.name!r} has more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: must be a PNG or JPEG image, is none") from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error) as error:
        raise DataError(f"{path}: not a readable image: {' '.join(str(error).split())[:200]}") from None


def to_pixels(image: Any, feature: Feature) -> Array:
    """What `device_sim.mil.features` has for an image of Pillow's: (channels, height, width)."""
    pixels = np.asarray(image.convert("F" if image.mode == "F" else _mode(feature)))
    if pixels.ndim == 2:
        return pixels[None]
    ordered = pixels[..., ::-1] if feature.dtype == "bgr" else pixels
    return np.ascontiguousarray(ordered.transpose(2, 0, 1))


def to_picture(pixels: Array, feature: Feature) -> Any:
    """The other way: an image of Pillow's, as coremltools takes one, red first whatever the color space."""
    from PIL import Image

    if feature.dtype == "grayscale_float16":
        return Image.fromarray(pixels[0].astype(np.float32))
    whole = np.rint(pixels).astype(np.uint8)
    if _mode(feature) == "L":
        return Image.fromarray(whole[0])
    ordered = whole[::-1] if feature.dtype == "bgr" else whole
    return Image.fromarray(np.ascontiguousarray(ordered.transpose(1, 2, 0)))


def _mode(feature: Feature) -> str:
    return "L" if (feature.dtype or "").startswith("grayscale") else "RGB"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings: about sizes, which are held against ours, and about damage that it mends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
