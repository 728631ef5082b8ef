"""Sampling images at places between their pixels.

Source: coremltools, mil/ops/defs/iOS15/image_resizing.py (crop_resize, affine, resample), iOS16, iOS17.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from device_sim.mil.kernels.image_resizing import SAMPLING_MODES
from device_sim.mil.registry import op
from device_sim.mil.types import Array, prod

BOX_MODES: Final = {
    "CORNERS_HEIGHT_FIRST": (0, 1, 2, 3),
    "CORNERS_WIDTH_FIRST": (1, 0, 3, 2),
    "CENTER_SIZE_HEIGHT_FIRST": (0, 1, 2, 3),
    "CENTER_SIZE_WIDTH_FIRST": (1, 0, 3, 2),
}
"""Where the heights and widths of a box are."""
PADDING_MODES: Final = ("constant", "border", "reflection", "symmetric")
COORDINATES_MODES: Final = ("unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one")


def sample(
    x: Array, rows: Array, columns: Array, nearest: bool, padding_mode: str, padding_value: float
) -> Array:
    """Values of x (B, C, H, W) at places (B, *P) in pixels; returns (B, C, *P).

    Beyond the image, `padding_mode` says what is there, pixel by pixel.
    """
    batch, channels = x.shape[:2]
    flat_rows, flat_columns = rows.reshape(batch, -1), columns.reshape(batch, -1)
    if nearest:
        result = _pixels(x, np.rint(flat_rows), np.rint(flat_columns), padding_mode, padding_value)
    else:
        result = np.zeros((batch, channels, flat_rows.shape[1]), x.dtype)
        top, left = np.floor(flat_rows), np.floor(flat_columns)
        down, right = flat_rows - top, flat_columns - left
        for row, row_share in ((top, 1 - down), (top + 1, down)):
            for column, column_share in ((left, 1 - right), (left + 1, right)):
                share = (row_share * column_share).astype(x.dtype)[:, None]
                # A pixel without a share does not count, were it infinite.
                pixels = _pixels(x, row, column, padding_mode, padding_value)
                result += np.where(share == 0, 0, pixels * share)
    return result.reshape(batch, channels, *rows.shape[1:])


def _pixels(x: Array, rows: Array, columns: Array, padding_mode: str, padding_value: float) -> Array:
    """x (B, C, H, W) at whole rows and columns (B, P)."""
    height, width = x.shape[2:]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    row, column = _fold(rows, height, padding_mode), _fold(columns, width, padding_mode)
    batch = np.arange(len(x))[:, None]
    found = np.moveaxis(x[batch, :, row, column], -1, 1)
    if padding_mode == "constant":
        found = np.where(inside[:, None], found, x.dtype.type(padding_value))
    return found


def _fold(places: Array, size: int, padding_mode: str) -> Array:
    """Whole places brought into [0, size)."""
    places = np.nan_to_num(places, nan=0, posinf=size, neginf=-1)
    if padding_mode == "reflection" and size > 1:
        places = np.abs(places) % (2 * size - 2)
        places = np.where(places >= size, 2 * size - 2 - places, places)
    elif padding_mode == "symmetric":
        places = places % (2 * size)
        places = np.where(places >= size, 2 * size - 1 - places, places)
    return np.clip(places, 0, size - 1).astype(np.intp)


def _to_pixels(places: Array, size: int, coordinates_mode: str, align_corners: bool) -> Array:
    """Places as they are given, in pixels; float64."""
    places = places.astype(np.float64)
    if coordinates_mode == "unnormalized":
        return places
    share = (places + 1) / 2 if coordinates_mode == "normalized_minus_one_to_one" else places
    return share * (size - 1) if align_corners else share * size - 0.5


def _resample_size(x: Array, coordinates: Array, **_: object) -> int:
    if x.ndim != 4 or coordinates.ndim != 4 or coordinates.shape[3] != 2 or len(x) != len(coordinates):
        raise ValueError(
            f"x (B, C, H, W) and coordinates (B, H, W, 2) are expected, "
            f"got {list(x.shape)} and {list(coordinates.shape)}"
        )
    if 0 in x.shape:
        raise ValueError(f"x{list(x.shape)} has no pixels")
    return max(x.size, prod((*coordinates.shape[:3], max(x.shape[1], 2))))


def _sampling_work(x: Array, coordinates: Array, **_: object) -> int:
    return 16 * 16 * prod((*coordinates.shape[:3], x.shape[1]))


@op("resample", size=_resample_size, work=_sampling_work)
def resample(
    x: Array,
    coordinates: Array,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Array:
    """coordinates (B, H, W, 2) are pairs of x and y."""
    sampling_mode, padding_mode = sampling_mode.lower(), padding_mode.lower()
    coordinates_mode = coordinates_mode.lower()
    if sampling_mode not in ("bilinear", "nearest") or padding_mode not in PADDING_MODES:
        raise ValueError(
            f"sampling_mode must be bilinear or nearest, padding_mode one of {', '.join(PADDING_MODES)}, "
            f"got {sampling_mode!r} and {padding_mode!r}"
        )
    if coordinates_mode not in COORDINATES_MODES:
        raise ValueError(
            f"coordinates_mode must be one of {', '.join(COORDINATES_MODES)}, got {coordinates_mode!r}"
        )
    columns = _to_pixels(coordinates[..., 0], x.shape[3], coordinates_mode, align_corners)
    rows = _to_pixels(coordinates[..., 1], x.shape[2], coordinates_mode, align_corners)
    return sample(x, rows, columns, sampling_mode == "nearest", padding_mode, padding_value)


def _affine_size(
    x: Array, transform_matrix: Array, output_height: int, output_width: int, **_: object
) -> int:
    if x.ndim != 4 or 0 in x.shape or transform_matrix.shape not in ((1, 6), (len(x), 6)):
        raise ValueError(
            f"x (B, C, H, W) and transform_matrix (B, 6) or (1, 6) are expected, "
            f"got {list(x.shape)} and {list(transform_matrix.shape)}"
        )
    if min(output_height, output_width) < 1:
        raise ValueError(f"an output of {output_height} by {output_width} has no pixels")
    return max(x.size, prod((len(x), max(x.shape[1], 3), output_height, output_width)))


def _affine_work(x: Array, output_height: int, output_width: int, **_: object) -> int:
    return 16 * 16 * prod((*x.shape[:2], output_height, output_width))


@op("affine", size=_affine_size, work=_affine_work)
def affine(
    x: Array,
    transform_matrix: Array,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Array:
    """Zeros beyond the image; transform_matrix rows are a0, a1, a2, b0, b1, b2."""
    modes = sampling_mode.lower(), padding_mode.lower(), coordinates_mode.lower()
    if modes != ("bilinear", "constant", "normalized_minus_one_to_one") or padding_value != 0:
        raise ValueError(
            f"only bilinear, constant 0 and normalized_minus_one_to_one are defined, "
            f"got {modes} {padding_value}"
        )
    if not align_corners:
        raise ValueError("align_corners must be true: Core ML has no other affine")
    across = _from_minus_one(output_width)[None, None, :]
    down = _from_minus_one(output_height)[None, :, None]
    a, b = (transform_matrix[:, i : i + 3, None, None].astype(np.float64) for i in (0, 3))
    xs = np.broadcast_to(a[:, 0] * across + a[:, 1] * down + a[:, 2], (len(x), output_height, output_width))
    ys = np.broadcast_to(b[:, 0] * across + b[:, 1] * down + b[:, 2], (len(x), output_height, output_width))
    rows = _to_pixels(ys, x.shape[2], "normalized_minus_one_to_one", True)
    columns = _to_pixels(xs, x.shape[3], "normalized_minus_one_to_one", True)
    return sample(x, rows, columns, False, "constant", 0.0)


def _from_minus_one(size: int) -> Array:
    """`size` places from -1 to 1."""
    return np.linspace(-1, 1, size) if size > 1 else np.full(1, -1.0)


def crop_boxes(
    x: Array,
    boxes: Array,
    indices: Array,
    height: int,
    width: int,
    normalized_coordinates: bool,
    spatial_scale: float,
    box_coordinate_mode: str,
    sampling_mode: str,
    pad_value: float,
) -> Array:
    """Each box (N, 4) of the image that its index names, resized: (N, C, height, width)."""
    if box_coordinate_mode not in BOX_MODES:
        raise ValueError(
            f"box_coordinate_mode must be one of {', '.join(BOX_MODES)}, got {box_coordinate_mode!r}"
        )
    if sampling_mode not in SAMPLING_MODES:
        raise ValueError(f"sampling_mode must be one of {', '.join(SAMPLING_MODES)}, got {sampling_mode!r}")
    if indices.size and not (indices.min() >= 0 and indices.max() < len(x)):
        raise ValueError(f"a box names an image outside of [0, {len(x)})")
    first = boxes.astype(np.float64)[:, BOX_MODES[box_coordinate_mode]] * spatial_scale
    starts, ends = first[:, :2], first[:, 2:]
    if box_coordinate_mode.startswith("CENTER"):
        starts, ends = starts - ends / 2, starts + ends / 2
    if normalized_coordinates:
        scale = np.array(x.shape[2:]) - 1
        starts, ends = starts * scale, ends * scale
    rows = _box_grid(starts[:, 0], ends[:, 0], height, sampling_mode)
    columns = _box_grid(starts[:, 1], ends[:, 1], width, sampling_mode)
    shape = (len(boxes), height, width)
    rows, columns = (
        np.broadcast_to(rows[:, :, None], shape),
        np.broadcast_to(columns[:, None, :], shape),
    )
    beyond = (rows < 0) | (rows > x.shape[2] - 1) | (columns < 0) | (columns > x.shape[3] - 1)
    found = sample(x[indices], rows, columns, False, "border", 0.0)
    return np.where(beyond[:, None], x.dtype.type(pad_value), found)


def _box_grid(starts: Array, ends: Array, out: int, mode: str) -> Array:
    """Where `out` elements lie from the start to the end of each box: (N, out).

    As `image_resizing.grid` over the interval from start to end, whose size is one more than its length.
    """
    i, length = np.arange(out, dtype=np.float64), (ends - starts)[:, None]
    if mode == "STRICT_ALIGN_CORNERS" or (mode == "ALIGN_CORNERS" and out > 1):
        return starts[:, None] + i * (length / max(out - 1, 1))
    if mode == "ALIGN_CORNERS":
        return starts[:, None] + length / 2
    if mode == "DEFAULT":
        return np.asarray(starts[:, None] + i * ((length + 1) / out))
    if mode == "OFFSET_CORNERS":
        return np.asarray(starts[:, None] + (i + 0.5) * (np.maximum(1, length) / out))
    return np.asarray(starts[:, None] + (i + 0.5) * ((length + 1) / out) - 0.5)


def _crop_size(x: Array, boxes: int, target_height: int, target_width: int) -> int:
    if x.ndim != 4 or 0 in x.shape or min(target_height, target_width) < 1:
        raise ValueError(
            f"x (B, C, H, W) and a size are expected, got {list(x.shape)}, {target_height}, {target_width}"
        )
    return prod((boxes, x.shape[1], max(prod(x.shape[2:]), prod((target_height, target_width)))))


def _roi_size(x: Array, roi: Array, target_height: int = 1, target_width: int = 1, **_: object) -> int:
    if roi.ndim != 5 or roi.shape[1:] not in ((1, 4, 1, 1), (1, 5, 1, 1)):
        raise ValueError(f"roi must be (N, 1, 4 or 5, 1, 1), got {list(roi.shape)}")
    return _crop_size(x, len(roi) * (len(x) if roi.shape[2] == 4 else 1), target_height, target_width)


def _roi_work(x: Array, roi: Array, target_height: int = 1, target_width: int = 1, **_: object) -> int:
    return 16 * 16 * _roi_size(x, roi, target_height, target_width)


@op("crop_resize", size=_roi_size, work=_roi_work)
def crop_resize(
    x: Array,
    roi: Array,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
) -> Array:
    """(N, B, C, height, width), every box of every image; (N, 1, …) where boxes name their image."""
    return crop_resize_16(
        x,
        roi,
        target_height,
        target_width,
        normalized_coordinates,
        spatial_scale,
        box_coordinate_mode,
        sampling_mode,
    )


@op("crop_resize", "iOS16", size=_roi_size, work=_roi_work)
def crop_resize_16(
    x: Array,
    roi: Array,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> Array:
    boxes = roi[:, 0, :, 0, 0]
    if boxes.shape[1] == 5:
        indices, each, boxes = boxes[:, 0].astype(np.intp), 1, boxes[:, 1:]
    else:
        indices, each = np.tile(np.arange(len(x)), len(boxes)), len(x)
        boxes = np.repeat(boxes, len(x), axis=0)
    found = crop_boxes(
        x,
        boxes,
        indices,
        target_height,
        target_width,
        normalized_coordinates,
        spatial_scale,
        box_coordinate_mode,
        sampling_mode,
        pad_value,
    )
    return found.reshape(len(roi), each, *found.shape[1:])


def _boxes_size(x: Array, boxes: Array, target_height: int = 1, target_width: int = 1, **_: object) -> int:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must be (N, 4), got {list(boxes.shape)}")
    return _crop_size(x, len(boxes), target_height, target_width)


def _boxes_work(x: Array, boxes: Array, target_height: int = 1, target_width: int = 1, **_: object) -> int:
    return 16 * 16 * _boxes_size(x, boxes, target_height, target_width)


@op("crop_resize", "iOS17", size=_boxes_size, work=_boxes_work)
def crop_resize_17(
    x: Array,
    boxes: Array,
    box_indices: Array | None = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> Array:
    """(N, C, height, width); without box_indices, box i is of image i."""
    indices = np.arange(len(boxes)) if box_indices is None else box_indices
    if indices.shape != boxes.shape[:1]:
        raise ValueError(f"box_indices must be ({len(boxes)},), got {list(indices.shape)}")
    return crop_boxes(
        x,
        boxes,
        indices.astype(np.intp),
        target_height,
        target_width,
        normalized_coordinates,
        spatial_scale,
        box_coordinate_mode,
        sampling_mode,
        pad_value,
    )
