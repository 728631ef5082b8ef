"""Conformance of convolution, pooling, recurrent layers, resizing and sampling, against torch.

coremltools evaluates none of them; its type inference is held against all. Tolerances: sums of at most a
few hundred products of numbers near 1.
"""

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from mil_harness import Case, floats, ints, number, optional
from torch.nn import functional as F

F32 = np.float32
SUM: dict[str, Any] = {"ulps": 64, "atol": 2e-5, "apple": False}
EXACT: dict[str, Any] = {"apple": False}


def _kind(draw: Any) -> Any:
    return draw(st.sampled_from([np.float32, np.float32, np.float16]))


def _several(draw: Any, low: int, high: int, count: int) -> tuple[int, ...]:
    return tuple(draw(st.integers(low, high)) for _ in range(count))


def _pairs(values: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(v for value in values for v in (value, value))


def _convolution(draw: Any, transposed: bool = False) -> dict[str, Any]:
    rank, kind = draw(st.integers(1, 3)), _kind(draw)
    groups, into, out = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel = _several(draw, 1, 3, rank)
    dilations = _several(draw, 1, 2, rank)
    pad_type = draw(st.sampled_from(["custom", "valid"] + ["same"] * (not transposed)))
    wide = [(size - 1) * dilation for size, dilation in zip(kernel, dilations, strict=True)]
    pad = tuple(draw(st.integers(0, max(0, (size - 1) // 2 if transposed else 2))) for size in wide)
    channels = (groups * into, out) if transposed else (groups * out, into)
    return {
        "x": floats(draw, (draw(st.integers(1, 2)), groups * into, *_several(draw, 5, 7, rank)), dtype=kind),
        "weight": floats(draw, (*channels, *kernel), special=None, dtype=kind),
        "bias": optional(draw, floats(draw, (groups * out,), special=None, dtype=kind)),
        "strides": optional(draw, _several(draw, 1, 3, rank)),
        "pad_type": pad_type,
        "pad": _pairs(pad) if pad_type == "custom" else None,
        "dilations": dilations,
        "groups": groups,
    }


def _finite(draw: Any) -> dict[str, Any]:
    """Zeros that are skipped and zeros times infinity differ, so all is finite."""
    found = _convolution(draw)
    return found | {"x": np.nan_to_num(found["x"], nan=1, posinf=2, neginf=-2).clip(-4, 4)}


def _finite_transposed(draw: Any) -> dict[str, Any]:
    found = _convolution(draw, transposed=True)
    return found | {"x": np.nan_to_num(found["x"], nan=1, posinf=2, neginf=-2).clip(-4, 4)}


def _same(x: Any, kernel: Any, strides: Any, dilations: Any, fill: float = 0, lower: bool = False) -> Any:
    """TensorFlow's SAME: ceil(size / stride) results, the odd one of the padding at the end."""
    pads: list[int] = []
    for size, k, s, d in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max(0, (int(np.ceil(size / s)) - 1) * s + (k - 1) * d + 1 - size)
        pair = [total // 2, total - total // 2]
        pads = [*(pair[::-1] if lower else pair), *pads]
    return F.pad(x, pads, value=fill)


def _conv(x, weight, bias=None, strides=None, pad_type="valid", pad=None, dilations=None, groups=1) -> Any:  # type: ignore[no-untyped-def]
    rank = x.ndim - 2
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    if pad_type.startswith("same"):
        x = _same(x, weight.shape[2:], strides, dilations, lower=pad_type == "same_lower")
    function = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    return function(x, weight, bias, strides, pad[::2] if pad else 0, dilations, groups)


def _quantized_conv(x, weight, quantization_type, quant_scale, quant_bias, **others) -> Any:  # type: ignore[no-untyped-def]
    shape = (-1, *[1] * (x.ndim - 1)) if quant_scale.ndim else ()
    return _conv(x, weight * quant_scale.reshape(shape) + quant_bias.reshape(shape), **others)


def _quantized(draw: Any) -> dict[str, Any]:
    found = _finite(draw) | {"bias": None}
    outputs = len(found["weight"])
    return found | {
        "x": found["x"].astype(F32),
        "weight": ints(draw, found["weight"].shape, 0, 9, np.uint8),
        "quantization_type": "linear",
        "quant_scale": floats(draw, (outputs,), special=None, dtype=F32),
        "quant_bias": floats(draw, (outputs,), special=None, dtype=F32),
    }


def _conv_transpose(  # type: ignore[no-untyped-def]
    x, weight, bias=None, pad=None, pad_type="valid", strides=None, dilations=None, groups=1
) -> Any:
    rank = x.ndim - 2
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    return function(x, weight, bias, strides, pad[::2] if pad else 0, 0, groups, dilations)


def _pool(draw: Any, ranks: int = 3, **more: Any) -> dict[str, Any]:
    rank = draw(st.integers(1, ranks))
    kernel = _several(draw, 2, 4, rank)
    pad_type = draw(st.sampled_from(["custom", "valid", "same"]))
    ceil = rank < 3 and pad_type == "custom" and draw(st.booleans())
    return {
        "x": floats(draw, (2, 2, *_several(draw, 5, 8, rank)), special=None, dtype=_kind(draw)),
        "kernel_sizes": kernel,
        # Windows that start beyond the input are dropped by torch, kept by coremltools without padding.
        "strides": tuple(draw(st.integers(1, size)) for size in kernel),
        "pad_type": pad_type,
        "pad": _pairs(tuple(max(1, size // 2) for size in kernel)) if pad_type == "custom" else None,
        "ceil_mode": optional(draw, ceil),
        **more,
    }


def _average(draw: Any) -> dict[str, Any]:
    found = _pool(draw)
    exclude = optional(draw, draw(st.booleans())) if found["pad_type"] != "same" else None
    return found | {"exclude_padding_from_average": exclude}


def _torch_pool(functions: Any, fill: float) -> Any:
    def reference(  # type: ignore[no-untyped-def]
        x, kernel_sizes, strides, pad_type, pad=None, ceil_mode=False, exclude_padding_from_average=None
    ) -> Any:
        if pad_type == "same":
            x = _same(x, kernel_sizes, strides, (1,) * len(strides), fill)
        more = {} if functions[0] is F.max_pool1d else {"count_include_pad": not exclude_padding_from_average}
        function = functions[x.ndim - 3]
        return function(x, kernel_sizes, strides, pad[::2] if pad else 0, ceil_mode=ceil_mode, **more)

    return reference


def _l2(x: Any, kernel_sizes: Any, **others: Any) -> Any:
    means = _torch_pool((F.avg_pool1d, F.avg_pool2d, F.avg_pool3d), 0)(x * x, kernel_sizes, **others)
    return (means * int(np.prod(kernel_sizes))).sqrt()


def _l2_arguments(draw: Any) -> dict[str, Any]:
    return _pool(draw, ranks=2) | {"ceil_mode": None}  # torch's mean over a cut window has another divisor


def _recurrent(gates: int, directions: tuple[str, ...], **more: Any) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        steps, batch, inputs, size = _several(draw, 1, 4, 4)
        direction = draw(st.sampled_from(directions))
        both = 2 if direction == "bidirectional" else 1

        def array(*sizes: int) -> Any:
            return floats(draw, sizes, -1, 1, None, F32)

        found = {
            "x": array(steps, batch, inputs),
            "initial_h": array(batch, both * size),
            "weight_ih": array(gates * size, inputs),
            "weight_hh": array(gates * size, size),
            "bias": optional(draw, array(gates * size)),
            "direction": direction,
            "output_sequence": draw(st.booleans()),
        }
        if gates == 4:
            found["initial_c"] = array(batch, both * size)
        if both == 2:
            found |= {
                "weight_ih_back": array(gates * size, inputs),
                "weight_hh_back": array(gates * size, size),
                "bias_back": optional(draw, array(gates * size)),
            }
        return found | {name: draw(value) for name, value in more.items()}

    return draw


def _run(
    module: Any, x: Any, states: Any, weights: dict[str, Any], direction: str, output_sequence: bool
) -> Any:
    """torch's module with these weights; a reverse one sees x from its end, and is not turned back."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            given = weights.get(name)
            parameter.zero_() if given is None else parameter.copy_(given)
        y, last = module(x.flip(0) if direction == "reverse" else x, states)
    if not output_sequence:
        y = torch.cat(list(last[0] if isinstance(last, tuple) else last), -1)[None]
    return y, last


def _gates(array: Any, order: tuple[int, ...]) -> Any:
    return None if array is None else torch.cat([array.chunk(len(order))[i] for i in order])


def _lstm(x, initial_h, initial_c, weight_ih, weight_hh, direction, output_sequence, **others) -> Any:  # type: ignore[no-untyped-def]
    both, size = direction == "bidirectional", weight_hh.shape[1]
    given = {"weight_ih_l0": weight_ih, "weight_hh_l0": weight_hh, "bias_ih_l0": others.get("bias")}
    for name in ("weight_ih", "weight_hh", "bias"):
        key = "bias_ih" if name == "bias" else name
        given[f"{key}_l0_reverse"] = others.get(f"{name}_back")
    ifzo = (0, 1, 3, 2)
    weights = {name: _gates(value, ifzo) for name, value in given.items()}
    module = torch.nn.LSTM(x.shape[2], size, bidirectional=both)
    states = tuple(torch.stack(state.split(size, 1)) for state in (initial_h, initial_c))
    y, (h, c) = _run(module, x, states, weights, direction, output_sequence)
    return y, torch.cat(list(h), 1), torch.cat(list(c), 1)


def _gru(  # type: ignore[no-untyped-def]
    x,
    initial_h,
    weight_ih,
    weight_hh,
    direction,
    output_sequence,
    bias=None,
    reset_after=False,
    input_bias=None,
) -> Any:
    """torch's GRU resets after the product; where it is to be before, step by step with torch's functions."""
    rzo = (0, 2, 1)
    if reset_after:
        weights = {
            "weight_ih_l0": _gates(weight_ih, rzo),
            "weight_hh_l0": _gates(weight_hh, rzo),
            "bias_ih_l0": _gates(input_bias, rzo),
            "bias_hh_l0": _gates(bias, rzo),
        }
        module = torch.nn.GRU(x.shape[2], weight_hh.shape[1])
        y, h = _run(module, x, initial_h[None], weights, direction, output_sequence)
        return y, h[0]
    whole = [torch.zeros(len(weight_ih)) if b is None else b for b in (bias, input_bias)]
    (b_r, b_o, b_z), h, steps = torch.add(*whole).chunk(3), initial_h, []
    (w_r, w_o, w_z), (u_r, u_o, u_z) = weight_ih.chunk(3), weight_hh.chunk(3)
    for entering in x.flip(0) if direction == "reverse" else x:
        r = torch.sigmoid(F.linear(entering, w_r, b_r) + F.linear(h, u_r))
        z = torch.sigmoid(F.linear(entering, w_z, b_z) + F.linear(h, u_z))
        h = torch.lerp(torch.tanh(F.linear(entering, w_o, b_o) + F.linear(r * h, u_o)), h, z)
        steps.append(h)
    return torch.stack(steps if output_sequence else steps[-1:]), h


def _rnn(x, initial_h, weight_ih, weight_hh, direction, output_sequence, bias=None, activation="tanh") -> Any:  # type: ignore[no-untyped-def]
    module = torch.nn.RNN(x.shape[2], len(weight_hh), nonlinearity=activation)
    weights = {"weight_ih_l0": weight_ih, "weight_hh_l0": weight_hh, "bias_ih_l0": bias}
    y, h = _run(module, x, initial_h[None], weights, direction, output_sequence)
    return y, h[0]


def _image(draw: Any, kind: Any = None) -> Any:
    sizes = (2, draw(st.integers(1, 2)), *_several(draw, 2, 6, 2))
    return floats(draw, sizes, special=None, dtype=kind or _kind(draw))


def _upsample(draw: Any) -> dict[str, Any]:
    factor = st.integers(1, 3)
    return {
        "x": _image(draw, F32),
        "scale_factor_height": draw(factor),
        "scale_factor_width": draw(factor),
    }


def _bilinear(draw: Any) -> dict[str, Any]:
    return _upsample(draw) | {"align_corners": draw(st.sampled_from([None, True, False]))}


def _bilinear_16(draw: Any) -> dict[str, Any]:
    found = _bilinear(draw)
    half = draw(st.booleans()) if found["align_corners"] is False else None
    return found | {"half_pixel_centers": half}


def _interpolate(x: Any, size: tuple[int, ...], mode: str) -> Any:
    """torch where it has the mode; else its sampler at the places that coremltools documents."""
    if mode == "UNALIGN_CORNERS":
        return F.interpolate(x, size, mode="bilinear", align_corners=False)
    if mode == "STRICT_ALIGN_CORNERS" or (mode == "ALIGN_CORNERS" and 1 not in size):
        return F.interpolate(x, size, mode="bilinear", align_corners=True)
    axes = []
    for old, new in zip(x.shape[2:], size, strict=True):
        if mode == "ALIGN_CORNERS":
            points = np.linspace(0, old - 1, new) if new > 1 else np.array([(old - 1) / 2])
        elif mode == "DEFAULT":
            spacing = (old - old / new) / (new - 1) if new > 1 else 0
            points = np.arange(new) * spacing
        else:
            delta = max(1, old - 1) / new
            points = 0.5 * delta + np.arange(new) * delta
        axes.append(torch.tensor(2 * np.clip(points, 0, old - 1) / (old - 1) - 1))
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    places = torch.stack([columns, rows], -1).expand(len(x), *size, 2)
    return F.grid_sample(x.double(), places, padding_mode="border", align_corners=True).float()


def _torch_upsample(  # type: ignore[no-untyped-def]
    x, scale_factor_height, scale_factor_width, align_corners=True, half_pixel_centers=None
) -> Any:
    size = (x.shape[2] * scale_factor_height, x.shape[3] * scale_factor_width)
    if half_pixel_centers is False and not align_corners:
        return _interpolate(x, size, "DEFAULT")
    return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)


def _torch_nearest(x, scale_factor_height, scale_factor_width) -> Any:  # type: ignore[no-untyped-def]
    return F.interpolate(x, scale_factor=(scale_factor_height, scale_factor_width), mode="nearest")


MODES = ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"]


def _target(draw: Any) -> dict[str, Any]:
    height, width = _several(draw, 1, 9, 2)
    return {"x": _image(draw), "target_size_height": height, "target_size_width": width}


def _mode_target(draw: Any) -> dict[str, Any]:
    return _target(draw) | {"sampling_mode": draw(st.sampled_from(MODES))}


def _resize(draw: Any) -> dict[str, Any]:
    x = _image(draw)
    shape = (7, *(draw(st.integers(0, 9)) for _ in range(2)))
    nearest = draw(st.booleans())
    return {
        "x": x,
        "shape": np.array(shape, np.int32),
        "resized_dims": np.uint32(2),
        "interpolation_mode": "NEAREST_NEIGHBOR" if nearest else "LINEAR",
        "sampling_mode": draw(st.sampled_from(["DEFAULT", "UNALIGN_CORNERS"] if nearest else MODES)),
    }


def _torch_resize(x, shape, resized_dims, interpolation_mode, sampling_mode) -> Any:  # type: ignore[no-untyped-def]
    size = tuple(new or old for new, old in zip(shape[1:].tolist(), x.shape[2:], strict=True))
    if interpolation_mode == "LINEAR":
        return _interpolate(x, size, sampling_mode)
    return F.interpolate(x, size, mode="nearest" if sampling_mode == "DEFAULT" else "nearest-exact")


def _crop(draw: Any) -> dict[str, Any]:
    return {
        "x": floats(draw, (2, 5, 6), dtype=_kind(draw)),
        "crop_height": _several(draw, 0, 2, 2),
        "crop_width": _several(draw, 0, 2, 2),
    }


def _torch_crop(x: Any, crop_height: Any, crop_width: Any) -> Any:
    return F.pad(x, [-crop_width[0], -crop_width[1], -crop_height[0], -crop_height[1]])


def _resample(draw: Any) -> dict[str, Any]:
    x = _image(draw, F32)
    padding = draw(st.sampled_from(["constant", "border", "reflection", "symmetric"]))
    # torch reflects about pixels with aligned corners, about edges without.
    align = draw(st.booleans()) if padding in ("constant", "border") else padding == "reflection"
    return {
        "x": x,
        "coordinates": floats(draw, (2, 3, 4, 2), -1.7, 1.7, None, F32),
        "sampling_mode": draw(st.sampled_from(["bilinear", "nearest"])),
        "padding_mode": padding,
        "padding_value": 0.0,
        "coordinates_mode": draw(st.sampled_from(["normalized_minus_one_to_one", "normalized_zero_to_one"])),
        "align_corners": align,
    }


def _torch_resample(x, coordinates, sampling_mode, padding_mode, coordinates_mode, align_corners, **_) -> Any:  # type: ignore[no-untyped-def]
    places = 2 * coordinates - 1 if coordinates_mode == "normalized_zero_to_one" else coordinates
    padding = {"constant": "zeros", "symmetric": "reflection"}.get(padding_mode, padding_mode)
    return F.grid_sample(x, places, sampling_mode, padding, align_corners)


def _affine(draw: Any) -> dict[str, Any]:
    x = _image(draw, F32)
    return {
        "x": x,
        "transform_matrix": floats(draw, (2, 6), -1.2, 1.2, None, F32),
        "output_height": draw(st.integers(2, 5)),
        "output_width": draw(st.integers(2, 5)),
        "sampling_mode": "bilinear",
        "padding_mode": "constant",
        "padding_value": 0.0,
        "coordinates_mode": "normalized_minus_one_to_one",
        "align_corners": True,
    }


def _torch_affine(x, transform_matrix, output_height, output_width, **_) -> Any:  # type: ignore[no-untyped-def]
    size = (*x.shape[:2], output_height, output_width)
    places = F.affine_grid(transform_matrix.reshape(-1, 2, 3), list(size), align_corners=True)
    return F.grid_sample(x, places, "bilinear", "zeros", align_corners=True)


def _boxes(draw: Any, count: int) -> Any:
    """(count, 4) of starts and ends in [0, 1], on a grid that float16 holds."""
    corners = np.sort(ints(draw, (count, 2, 2), 0, 16), axis=1) / 16
    return corners.reshape(count, 4).astype(F32)


def _crop_resize(version: int) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        x = _image(draw, F32)
        boxes = _boxes(draw, 2)
        found: dict[str, Any] = {
            "x": x,
            "target_height": draw(st.integers(2, 4)),
            "target_width": draw(st.integers(2, 4)),
            "normalized_coordinates": True,
            "sampling_mode": draw(st.sampled_from(["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"])),
        }
        if version == 17:
            return found | {"boxes": boxes, "box_indices": optional(draw, ints(draw, (2,), 0, 1))}
        return found | {"roi": boxes.reshape(2, 1, 4, 1, 1)}

    return draw


def _torch_crop_resize(x, target_height, target_width, roi=None, boxes=None, box_indices=None, **_) -> Any:  # type: ignore[no-untyped-def]
    chosen = roi.reshape(-1, 4) if boxes is None else boxes
    rows = []
    for i, (top, left, bottom, right) in enumerate((2 * chosen - 1).tolist()):
        axes = torch.linspace(top, bottom, target_height), torch.linspace(left, right, target_width)
        down, across = torch.meshgrid(*axes, indexing="ij")
        places = torch.stack([across, down], -1).expand(len(x), target_height, target_width, 2)
        found = F.grid_sample(x, places, padding_mode="border", align_corners=True)
        image = i if box_indices is None else int(box_indices[i])
        rows.append(found if boxes is None else found[image])
    return torch.stack(rows)


def _suppression(version: int) -> Any:
    def draw(draw: Any) -> dict[str, Any]:
        count, classes = _several(draw, 1, 6, 2)
        boxes = floats(draw, (2, count, 4), 0.5, 2, None, F32)
        scores = floats(draw, (2, count, classes), 0, 1, None, F32)
        found = {
            "boxes": boxes,
            "scores": scores,
            "iou_threshold": number(draw, 0.1, 0.9),
            "max_boxes": draw(st.integers(1, 4)),
            "per_class_suppression": optional(draw, draw(st.booleans())),
        }
        if version == 17:
            return found | {
                "boxes": boxes.transpose(0, 2, 1).copy(),
                "scores": scores.transpose(0, 2, 1).copy(),
            }
        return found | {"score_threshold": number(draw, 0, 0.6)}

    return draw


def _torch_suppression(  # type: ignore[no-untyped-def]
    boxes, scores, iou_threshold, max_boxes, per_class_suppression=False, score_threshold=None
) -> Any:
    """Pair by pair, as the definition has it."""
    last = score_threshold is None
    boxes, scores = (boxes.transpose(1, 2), scores.transpose(1, 2)) if last else (boxes, scores)
    n, _, classes = scores.shape
    out_boxes, out_scores = torch.zeros(n, max_boxes, 4), torch.zeros(n, max_boxes, classes)
    indices, counts = torch.full((n, max_boxes), -1, dtype=torch.int32), torch.zeros(n, dtype=torch.int32)
    for image in range(n):
        chosen: list[int] = []
        best, label = scores[image].max(1)
        for i in torch.argsort(best, descending=True, stable=True).tolist():
            if len(chosen) == max_boxes or best[i] < (score_threshold or -1):
                break
            if not any(
                _overlap(boxes[image, i], boxes[image, j]) > iou_threshold
                and (not per_class_suppression or label[i] == label[j])
                for j in chosen
            ):
                chosen.append(i)
        for place, i in enumerate(chosen):
            out_boxes[image, place], out_scores[image, place] = boxes[image, i], scores[image, i]
            indices[image, place] = i
        counts[image] = len(chosen)
    if last:
        return out_boxes.transpose(1, 2), out_scores.transpose(1, 2), indices
    return out_boxes, out_scores, indices, counts


def _overlap(a: Any, b: Any) -> float:
    common = 1.0
    for axis in (0, 1):
        low = max(float(a[axis] - a[axis + 2] / 2), float(b[axis] - b[axis + 2] / 2))
        high = min(float(a[axis] + a[axis + 2] / 2), float(b[axis] + b[axis + 2] / 2))
        common *= max(0.0, high - low)
    return common / (float(a[2] * a[3] + b[2] * b[3]) - common)


def _local(draw: Any) -> dict[str, Any]:
    return {
        "x": floats(draw, (2, draw(st.integers(1, 6)), *_several(draw, 1, 3, 2)), special=None, dtype=F32),
        "size": draw(st.integers(1, 5)),
        "alpha": number(draw, 0, 1),
        "beta": number(draw, 0.25, 1),
        "k": number(draw, 1, 2),
    }


def _depth(draw: Any) -> dict[str, Any]:
    block = draw(st.integers(2, 3))
    return {"x": floats(draw, (2, 2 * block**2, 2, 3), dtype=_kind(draw)), "block_size": block}


def _space(draw: Any) -> dict[str, Any]:
    block = draw(st.integers(2, 3))
    return {"x": floats(draw, (2, 2, 2 * block, block), dtype=_kind(draw)), "block_size": block}


def _torch_depth(x: Any, block_size: int) -> Any:
    """pixel_shuffle has a channel's place in its block last; here it comes first."""
    n, c, h, w = x.shape
    grouped = x.reshape(n, block_size**2, -1, h, w).transpose(1, 2).reshape(n, c, h, w)
    return F.pixel_shuffle(grouped, block_size)


def _torch_space(x: Any, block_size: int) -> Any:
    found = F.pixel_unshuffle(x, block_size)
    n, c, h, w = found.shape
    return found.reshape(n, -1, block_size**2, h, w).transpose(1, 2).reshape(n, c, h, w)


def _to_batch(draw: Any) -> dict[str, Any]:
    down, across = _several(draw, 1, 3, 2)
    pads = ints(draw, (2, 2), 0, 2)
    sizes = [4 * block - int(pair.sum()) for block, pair in zip((down, across), pads, strict=True)]
    if min(sizes) < 1:
        pads, sizes = np.zeros((2, 2), np.int32), [4 * down, 4 * across]
    x = floats(draw, (2, 2, *sizes), dtype=_kind(draw))
    return {"x": x, "block_shape": (down, across), "paddings": pads}


def _torch_to_batch(x: Any, block_shape: Any, paddings: Any) -> Any:
    (top, bottom), (left, right) = paddings.tolist()
    padded = F.pad(x, [left, right, top, bottom])
    parts = [
        padded[:, :, i :: block_shape[0], j :: block_shape[1]]
        for i in range(block_shape[0])
        for j in range(block_shape[1])
    ]
    return torch.cat(parts)


def _from_batch(draw: Any) -> dict[str, Any]:
    down, across = _several(draw, 1, 3, 2)
    x = floats(draw, (2 * down * across, 2, 3, 4), dtype=_kind(draw))
    return {"x": x, "block_shape": (down, across), "crops": ints(draw, (2, 2), 0, 1)}


def _torch_from_batch(x: Any, block_shape: Any, crops: Any) -> Any:
    down, across = block_shape
    n, (c, h, w) = len(x) // (down * across), x.shape[1:]
    whole = torch.zeros(n, c, h * down, w * across)
    for place, part in enumerate(x.split(n)):
        whole[:, :, place // across :: down, place % across :: across] = part
    (top, bottom), (left, right) = crops.tolist()
    return whole[:, :, top : h * down - bottom, left : w * across - right]


AVERAGES = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
LARGEST = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
ONE_WAY = ("forward", "reverse")
CASES = [
    Case("conv", _finite, _conv, **SUM),
    Case("conv_quantized", _quantized, _quantized_conv, ulps=64, atol=2e-4, apple=False),
    Case("conv_transpose", _finite_transposed, _conv_transpose, **SUM),
    Case("avg_pool", _average, _torch_pool(AVERAGES, 0), **SUM),
    Case("l2_pool", _l2_arguments, _l2, **SUM),
    Case("max_pool", _pool, _torch_pool(LARGEST, -np.inf), **EXACT),
    Case("lstm", _recurrent(4, (*ONE_WAY, "bidirectional")), _lstm, **SUM),
    Case("gru", _recurrent(3, ONE_WAY), _gru, **SUM),
    Case(
        "gru",
        _recurrent(3, ONE_WAY, reset_after=st.booleans()),
        _gru,
        opset="iOS18",
        **SUM,
    ),
    Case("rnn", _recurrent(1, ONE_WAY, activation=st.sampled_from(["tanh", "relu"])), _rnn, **SUM),
    Case("upsample_nearest_neighbor", _upsample, _torch_nearest, **EXACT),
    Case("upsample_bilinear", _bilinear, _torch_upsample, **SUM),
    Case("upsample_bilinear", _bilinear_16, _torch_upsample, opset="iOS16", **SUM),
    Case(
        "resize_bilinear",
        _mode_target,
        lambda x, target_size_height, target_size_width, sampling_mode: _interpolate(
            x, (target_size_height, target_size_width), sampling_mode
        ),
        **SUM,
    ),
    Case(
        "resize_nearest_neighbor",
        _target,
        lambda x, target_size_height, target_size_width: F.interpolate(
            x, (target_size_height, target_size_width), mode="nearest-exact"
        ),
        **EXACT,
    ),
    Case("resize", _resize, _torch_resize, opset="iOS17", **SUM),
    Case("crop", _crop, _torch_crop, **EXACT),
    Case("resample", _resample, _torch_resample, **SUM),
    Case("affine", _affine, _torch_affine, ulps=64, atol=2e-5, apple=False),
    Case("crop_resize", _crop_resize(15), _torch_crop_resize, **SUM),
    Case("crop_resize", _crop_resize(16), _torch_crop_resize, opset="iOS16", **SUM),
    Case("crop_resize", _crop_resize(17), _torch_crop_resize, opset="iOS17", **SUM),
    Case("non_maximum_suppression", _suppression(15), _torch_suppression, **EXACT),
    Case("non_maximum_suppression", _suppression(17), _torch_suppression, opset="iOS17", **EXACT),
    Case(
        "local_response_norm",
        _local,
        lambda x, size, alpha, beta, k: F.local_response_norm(x, size, alpha, beta, k),
        **SUM,
    ),
    Case("depth_to_space", _depth, _torch_depth, **EXACT),
    Case("space_to_depth", _space, _torch_space, **EXACT),
    Case("space_to_batch", _to_batch, _torch_to_batch, **EXACT),
    Case("batch_to_space", _from_batch, _torch_from_batch, **EXACT),
]
