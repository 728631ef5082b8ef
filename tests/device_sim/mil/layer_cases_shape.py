"""Layers that arrange, cut, join, index and make arrays; convolution, pooling, resizing, boxes."""

import numpy as np
import torch
from layer_harness import LayerCase, built, case, fields
from torch.nn import functional as F

RNG = np.random.default_rng(4)
X = RNG.normal(size=(2, 3, 4)).astype(np.float32)
TX = torch.from_numpy(X)
IMAGES = RNG.normal(size=(2, 4, 7, 6)).astype(np.float32)
TI = torch.from_numpy(IMAGES)
FIVE = RNG.normal(size=(3, 2, 4, 5, 6)).astype(np.float32)
T5 = torch.from_numpy(FIVE)


def _random(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def _t(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


_W, _B = _random(6, 2, 3, 2), _random(6)  # outputs, channels / 2 groups, height, width
_V = _random(4, 3, 3, 2)  # channels, outputs / 2 groups, height, width
_PADDED = F.pad(TI, (1, 0, 2, 1))
_CONV = {"output_channels": 6, "height": 3, "width": 2, "groups": 2, "b": _B, "has_bias": True}
_HWIO, _HWOI = np.transpose(_W, (2, 3, 1, 0)), np.transpose(_V, (2, 3, 0, 1))
_TRANSPOSED = F.conv_transpose2d(TI, _t(_V), _t(_B), (2, 1), groups=2)  # 15 by 7
CONVOLUTIONS: list[LayerCase] = [
    case(
        "convolution",
        built(
            "convolution",
            kernel_channels=2,
            W=_HWIO,
            border_mode="valid",
            stride_height=2,
            stride_width=1,
            padding_top=2,
            padding_bottom=1,
            padding_left=1,
            dilation_factors=[1, 2],
            **_CONV,
        ),
        [IMAGES],
        F.conv2d(_PADDED, _t(_W), _t(_B), (2, 1), dilation=(1, 2), groups=2),
        atol=5e-6,
    ),
    case(
        "convolution",
        built(
            "convolution",
            kernel_channels=2,
            W=_HWIO,
            border_mode="same",
            stride_height=1,
            stride_width=1,
            same_padding_asymmetry_mode="TOP_LEFT_HEAVY",
            **_CONV,
        ),
        [IMAGES],
        F.conv2d(F.pad(TI, (1, 0, 1, 1)), _t(_W), _t(_B), groups=2),
        what="same, top left",
        atol=5e-6,
    ),
    case(
        "convolution",
        fields("convolution", outputChannels=6, kernelChannels=4, kernelSize=[3, 2], valid={}),
        [IMAGES, w := _random(6, 4, 3, 2)],
        F.conv2d(TI, _t(w)),
        what="computed weights",
        atol=5e-6,
    ),
    case(
        "convolution",
        built(
            "convolution",
            kernel_channels=4,
            W=_HWOI,
            border_mode="valid",
            stride_height=2,
            stride_width=1,
            padding_top=2,
            padding_left=1,
            is_deconv=True,
            **_CONV,
        ),
        [IMAGES],
        _TRANSPOSED[..., 2:, 1:],
        what="transposed",
        atol=5e-6,
    ),
    case(
        "convolution",
        built(
            "convolution",
            kernel_channels=4,
            W=_HWOI,
            border_mode="same",
            stride_height=2,
            stride_width=1,
            is_deconv=True,
            **_CONV,
        ),
        [IMAGES],
        _TRANSPOSED[..., :14, :6],
        what="transposed, same",
        atol=5e-6,
    ),
    case(
        "convolution",
        built(
            "convolution",
            kernel_channels=4,
            W=_HWOI,
            border_mode="valid",
            stride_height=2,
            stride_width=1,
            is_deconv=True,
            output_shape=(13, 6),
            **_CONV,
        ),
        [IMAGES],
        _TRANSPOSED[..., 1:14, :6],
        what="transposed, to a shape",
        atol=5e-6,
    ),
    case(
        "convolution",
        fields(
            "convolution",
            outputChannels=2,
            kernelChannels=4,
            kernelSize=[1, 1],
            valid={},
            weights=(w := _random(2, 4, 1, 1)),
        ),
        [IMAGES[None]],
        F.conv2d(TI, _t(w))[None],
        what="rank 5",
    ),
    case(
        "convolution3d",
        built(
            "convolution3d",
            input_channels=2,
            output_channels=4,
            depth=2,
            height=3,
            width=2,
            W=(w := _random(4, 1, 2, 3, 2)),
            b=_B[:4],
            has_bias=True,
            groups=2,
            stride_depth=1,
            stride_height=2,
            stride_width=1,
            padding_mode="same",
        ),
        [FIVE],
        F.conv3d(F.pad(T5, (0, 1, 1, 1, 0, 1)), _t(w), _t(_B[:4]), (1, 2, 1), groups=2),
        atol=5e-6,
    ),
    case(
        "convolution3d",
        fields(
            "convolution3d",
            inputChannels=2,
            outputChannels=3,
            nGroups=1,
            kernelDepth=2,
            kernelHeight=3,
            kernelWidth=2,
            strideDepth=2,
            strideHeight=1,
            strideWidth=1,
            dilationDepth=1,
            dilationHeight=1,
            dilationWidth=1,
            isDeconvolution=True,
            customPaddingTop=1,
            weights=(w := _random(2, 3, 2, 3, 2)),
        ),
        [FIVE],
        F.conv_transpose3d(T5, _t(w), stride=(2, 1, 1))[..., 1:, :],
        what="transposed",
        atol=5e-6,
    ),
]

_POOL = {"height": 3, "width": 2, "stride_height": 2, "stride_width": 2}
_COUNTED = F.avg_pool2d(F.pad(torch.ones_like(TI), (1, 0, 1, 1)), (3, 2), 2)
_EXCLUDED = F.avg_pool2d(F.pad(TI, (1, 0, 1, 1)), (3, 2), 2) / _COUNTED
POOLING: list[LayerCase] = [
    case(
        "pooling",
        built("pooling", layer_type="MAX", padding_type="VALID", **_POOL),
        [IMAGES],
        F.max_pool2d(TI, (3, 2), 2),
    ),
    case(
        "pooling",
        built(
            "pooling",
            layer_type="AVERAGE",
            padding_type="VALID",
            padding_top=1,
            padding_bottom=1,
            padding_left=1,
            exclude_pad_area=True,
            **_POOL,
        ),
        [IMAGES],
        _EXCLUDED,
        what="average",
    ),
    case(
        "pooling",
        built(
            "pooling",
            layer_type="AVERAGE",
            padding_type="VALID",
            padding_top=1,
            padding_bottom=1,
            padding_left=1,
            exclude_pad_area=False,
            **_POOL,
        ),
        [IMAGES],
        F.avg_pool2d(F.pad(TI, (1, 0, 1, 1)), (3, 2), 2),
        what="average with padding",
    ),
    case(
        "pooling",
        built("pooling", layer_type="L2", padding_type="SAME", **_POOL),
        [IMAGES],
        (F.avg_pool2d(F.pad(TI, (0, 0, 1, 1)).square(), (3, 2), 2) * 6).sqrt(),
        what="L2",
        atol=3e-6,
    ),
    # torch's ceil mode has the same rule: the last window starts in the image or before it.
    case(
        "pooling",
        built(
            "pooling",
            layer_type="MAX",
            padding_type="INCLUDE_LAST_PIXEL",
            padding_top=1,
            padding_bottom=1,
            padding_left=1,
            padding_right=1,
            **_POOL,
        ),
        [IMAGES],
        F.max_pool2d(TI, (3, 2), 2, padding=1, ceil_mode=True),
        what="include the last pixel",
    ),
    case(
        "pooling",
        built("pooling", layer_type="AVERAGE", padding_type="VALID", is_global=True, **_POOL),
        [IMAGES],
        TI.mean((2, 3), keepdim=True),
        what="global",
    ),
    case(
        "pooling3d",
        built(
            "pooling3d",
            pooling_type="AVERAGE",
            kernel_depth=2,
            kernel_height=3,
            kernel_width=2,
            stride_depth=1,
            stride_height=2,
            stride_width=2,
            padding_mode="CUSTOM",
            custom_padding_top=1,
            average_pooling_count_excludes_padding=False,
        ),
        [FIVE],
        F.avg_pool3d(F.pad(T5, (0, 0, 1, 0, 0, 0)), (2, 3, 2), (1, 2, 2)),
    ),
    case(
        "pooling3d",
        built(
            "pooling3d",
            pooling_type="MAX",
            kernel_depth=2,
            kernel_height=3,
            kernel_width=2,
            stride_depth=1,
            stride_height=1,
            stride_width=1,
            padding_mode="VALID",
        ),
        [FIVE],
        F.max_pool3d(T5, (2, 3, 2), 1),
        what="max",
    ),
    case(
        "globalPooling3d",
        built("global_pooling3d", pooling_type="MAX"),
        [FIVE],
        T5.amax((2, 3, 4), keepdim=True),
    ),
]

_BOXES = np.array([[0, 1, 4, 5], [2, 0, 6, 3]], np.float32)  # height and width of start, then of end


def _cropped(count: int) -> torch.Tensor:
    """By torch: grid_sample at evenly spaced points of each box, corners aligned."""
    found = []
    for top, left, bottom, right in _BOXES:
        ys, xs = np.linspace(top, bottom, count), np.linspace(left, right, count)
        grid = np.stack(np.meshgrid(xs / 5 * 2 - 1, ys / 6 * 2 - 1), -1)  # of a 7 by 6 image
        found.append(F.grid_sample(TI, _t(grid)[None].expand(2, -1, -1, -1), align_corners=True))
    return torch.stack(found)


_ONE = torch.tensor([[1.0, 2.0, 3.0]]).reshape(1, 1, 3)
_NMS_BOXES = [[[1, 1, 2, 2], [1.2, 1, 2, 2], [5, 5, 2, 2], [9, 9, 2, 2]]]
_NMS_SCORES = [[[0.6, 0.1], [0.2, 0.9], [0.5, 0.1], [0.05, 0.01]]]
IMAGE_LAYERS: list[LayerCase] = [
    case("crop", built("crop", left=1, right=2, top=3, bottom=0, offset=[0, 0]), [IMAGES], TI[..., 3:, 1:4]),
    case(
        "crop", fields("crop", offset=[2, 1]), [IMAGES, _random(2, 4, 3, 2)], TI[..., 2:5, 1:3], what="like"
    ),
    case(
        "padding",
        built("padding", left=1, right=2, top=2, bottom=0, value=-1),
        [IMAGES],
        F.pad(TI, (1, 2, 2, 0), value=-1),
    ),
    case(
        "padding",
        built("padding", left=1, right=2, top=2, padding_type="reflection"),
        [IMAGES],
        F.pad(TI, (1, 2, 2, 0), mode="reflect"),
        what="reflection",
    ),
    case(
        "padding",
        built("padding", left=1, right=2, top=2, padding_type="replication"),
        [IMAGES],
        F.pad(TI, (1, 2, 2, 0), mode="replicate"),
        what="replication",
    ),
    case(
        "upsample",
        built("upsample", scaling_factor_h=2, scaling_factor_w=3, mode="NN"),
        [IMAGES],
        F.interpolate(TI, scale_factor=(2, 3)),
    ),
    case(
        "upsample",
        built(
            "upsample",
            scaling_factor_h=1.66,
            scaling_factor_w=2,
            mode="BILINEAR",
            linear_upsample_mode="ALIGN_CORNERS_FALSE",
        ),
        [IMAGES],
        F.interpolate(TI, scale_factor=(1.66, 2), mode="bilinear", recompute_scale_factor=True),
        what="bilinear",
        atol=3e-6,
    ),
    case(
        "upsample",
        built(
            "upsample",
            scaling_factor_h=2,
            scaling_factor_w=2,
            mode="BILINEAR",
            linear_upsample_mode="ALIGN_CORNERS_TRUE",
        ),
        [IMAGES],
        F.interpolate(TI, scale_factor=2, mode="bilinear", align_corners=True),
        what="corners",
        atol=3e-6,
    ),
    # coremltools, test_tiny_upsample_linear_mode.
    case(
        "upsample",
        built("upsample", scaling_factor_h=2, scaling_factor_w=3, mode="BILINEAR"),
        [_ONE.numpy()],
        [[[1, 4 / 3, 5 / 3, 2, 7 / 3, 8 / 3, 3, 3, 3]] * 2],
        what="default",
    ),
    case(
        "resizeBilinear",
        built("resize_bilinear", target_height=4, target_width=9, mode="STRICT_ALIGN_ENDPOINTS_MODE"),
        [IMAGES],
        F.interpolate(TI, (4, 9), mode="bilinear", align_corners=True),
        atol=3e-6,
    ),
    case(
        "resizeBilinear",
        fields("resizeBilinear", targetSize=[1, 1], mode={"samplingMethod": "ALIGN_ENDPOINTS_MODE"}),
        [[[[1, 2], [3, 6]]]],
        [[[3]]],
        what="to one",
    ),
    # x / 2 at 0.5, 1.5, 2.5, 3.5: spacing 4 / 4 of a row of 5.
    case(
        "resizeBilinear",
        fields("resizeBilinear", targetSize=[1, 4], mode={"samplingMethod": "ROI_ALIGN_MODE"}),
        [[[[0, 1, 2, 3, 4]]]],
        [[[0.5, 1.5, 2.5, 3.5]]],
        what="regions",
    ),
    case(
        "cropResize",
        built(
            "crop_resize",
            target_height=3,
            target_width=3,
            mode="STRICT_ALIGN_ENDPOINTS_MODE",
            box_indices_mode="CORNERS_HEIGHT_FIRST",
        ),
        [IMAGES[None], _BOXES.reshape(2, 1, 4, 1, 1)],
        _cropped(3),
        atol=3e-6,
    ),
    case(
        "cropResize",
        built(
            "crop_resize",
            target_height=3,
            target_width=3,
            mode="ALIGN_ENDPOINTS_MODE",
            box_indices_mode="CENTER_SIZE_WIDTH_FIRST",
            normalized_roi=True,
            spatial_scale=0.5,
        ),
        [
            IMAGES[None],
            np.concatenate(
                [
                    np.array([[1], [0]]),
                    np.stack(
                        [
                            (_BOXES[:, 1] + _BOXES[:, 3]) / 5,
                            (_BOXES[:, 0] + _BOXES[:, 2]) / 6,
                            (_BOXES[:, 3] - _BOXES[:, 1]) * 2 / 5,
                            (_BOXES[:, 2] - _BOXES[:, 0]) / 3,
                        ],
                        1,
                    ),
                ],
                1,
            ).reshape(2, 1, 5, 1, 1),
        ],
        torch.stack([_cropped(3)[0, 1:], _cropped(3)[1, :1]]),
        what="normalized, of named images",
        atol=3e-6,
    ),
    case(
        "reorganizeData",
        built("reorganize_data", mode="PIXEL_SHUFFLE", block_size=2),
        [IMAGES],
        F.pixel_shuffle(TI, 2),
    ),
    # The examples of the format's documentation.
    case(
        "reorganizeData",
        built("reorganize_data", mode="DEPTH_TO_SPACE", block_size=2),
        [np.arange(1, 17).reshape(8, 1, 2)],
        [[[1, 5, 2, 6], [9, 13, 10, 14]], [[3, 7, 4, 8], [11, 15, 12, 16]]],
        what="depth to space",
    ),
    case(
        "reorganizeData",
        built("reorganize_data", mode="SPACE_TO_DEPTH", block_size=2),
        [[[[1, 5, 2, 6], [9, 13, 10, 14]], [[3, 7, 4, 8], [11, 15, 12, 16]]]],
        np.arange(1, 17).reshape(8, 1, 2),
        what="space to depth",
    ),
    # Boxes 0 and 1 overlap by 0.82; box 3 is below the least score.
    case(
        "NonMaximumSuppression",
        fields("NonMaximumSuppression", iouThreshold=0.5, scoreThreshold=0.1, maxBoxes=3),
        [_NMS_BOXES, _NMS_SCORES],
        [[[1.2, 1, 2, 2], [5, 5, 2, 2], [0, 0, 0, 0]]],
        [[[0.2, 0.9], [0.5, 0.1], [0, 0]]],
        [[1, 2, -1]],
        [2],
    ),
    case(
        "NonMaximumSuppression",
        fields("NonMaximumSuppression", perClassSuppression=True),
        [_NMS_BOXES, _NMS_SCORES, [0.5], [0.1], [3]],
        [[[1.2, 1, 2, 2], [1, 1, 2, 2], [5, 5, 2, 2]]],
        [[[0.2, 0.9], [0.6, 0.1], [0.5, 0.1]]],
        [[1, 0, 2]],
        [3],
        what="by class",
    ),
    case(
        "NonMaximumSuppression",
        fields("NonMaximumSuppression", iouThreshold=0.5, scoreThreshold=2, maxBoxes=2),
        [_NMS_BOXES, _NMS_SCORES],
        [[[1.2, 1, 2, 2], [0, 0, 0, 0]]],
        [[[0.2, 0.9], [0, 0]]],
        [[1, -1]],
        [1],
        what="none left",
    ),
    # 2 of 6 units of area are common: a third.
    *(
        case(
            "NonMaximumSuppression",
            fields("NonMaximumSuppression", iouThreshold=threshold, maxBoxes=2),
            [[[[1, 1, 2, 2], [1, 2, 2, 2]]], [[[0.9], [0.8]]]],
            [[[1, 1, 2, 2], second]],
            [[[0.9], [score]]],
            [[0, index]],
            [count],
            what=f"above {threshold}",
        )
        for threshold, second, score, index, count in (
            (0.33, [0, 0, 0, 0], 0, -1, 1),
            (0.34, [1, 2, 2, 2], 0.8, 1, 2),
        )
    ),
]

_L = TI.permute(0, 2, 3, 1)
SHAPES: list[LayerCase] = [
    case("reshape", fields("reshape", targetShape=[6, 4, 5]), [FIVE], T5.reshape(3, 2, 6, 4, 5)),
    case(
        "reshape",
        fields("reshape", targetShape=[6, 4, 5], mode="CHANNEL_LAST"),
        [FIVE],
        T5.permute(0, 1, 3, 4, 2).reshape(3, 2, 4, 5, 6).permute(0, 1, 4, 2, 3),
        what="channel last",
    ),
    case(
        "reshape",
        fields("reshape", targetShape=[6, 2, 5, 6]),
        [FIVE[:, :1]],
        T5[:, :1].reshape(6, 1, 2, 5, 6),
        what="the sequence, too",
    ),
    case("flatten", fields("flatten"), [IMAGES], TI.flatten(1)[..., None, None]),
    case(
        "flatten",
        fields("flatten", mode="CHANNEL_LAST"),
        [IMAGES],
        _L.flatten(1)[..., None, None],
        what="last",
    ),
    case("permute", fields("permute", axis=[0, 3, 1, 2]), [FIVE], T5.permute(0, 1, 4, 2, 3)),
    # The example of the format's documentation: [W, B, C, H, Seq].
    case("permute", fields("permute", axis=[3, 1, 2, 0]), [FIVE], T5.permute(4, 1, 2, 3, 0), what="sequence"),
    case("transpose", fields("transpose", axes=[2, 0, 1]), [X], TX.permute(2, 0, 1)),
    case("reshapeStatic", fields("reshapeStatic", targetShape=[4, -1]), [X], TX.reshape(4, 6)),
    case("reshapeDynamic", fields("reshapeDynamic"), [X, [6, -1]], TX.reshape(6, 4)),
    case("reshapeLike", fields("reshapeLike"), [X, np.zeros((8, 3))], TX.reshape(8, 3)),
    case(
        "rankPreservingReshape",
        fields("rankPreservingReshape", targetShape=[4, 0, -1]),
        [X],
        TX.reshape(4, 3, 2),
    ),
    case("flattenTo2D", fields("flattenTo2D", axis=-1), [X], TX.reshape(6, 4)),
    case("flattenTo2D", fields("flattenTo2D", axis=1), [[1, 2, 3]], [[1], [2], [3]], what="of a vector"),
    case("expandDims", fields("expandDims", axes=[0, 2]), [X[0]], TX[0][None, :, None]),
    case("squeeze", fields("squeeze", axes=[0, -1]), [X[None, ..., None]], TX),
    case("squeeze", fields("squeeze", squeezeAll=True), [[[5]]], [5], what="to one"),
    case("reverse", fields("reverse", reverseDim=[True, False, True]), [X], TX.flip(0, 2)),
    # The examples of the format's documentation.
    case(
        "reverseSeq",
        fields("reverseSeq", batchAxis=0, sequenceAxis=1),
        [[[0, 1, 2, 3], [4, 5, 6, 7]], [3, 0]],
        [[2, 1, 0, 3], [4, 5, 6, 7]],
    ),
    case("concat", fields("concat"), [IMAGES, IMAGES[:, :1]], torch.cat([TI, TI[:, :1]], 1)),
    case(
        "concat",
        fields("concat", sequenceConcat=True),
        [FIVE, FIVE[:1]],
        torch.cat([T5, T5[:1]], 0),
        what="sequence",
    ),
    case(
        "concatND",
        fields("concatND", axis=0, interleave=True),
        [[[1, 2], [3, 4]], [[7, 8], [9, 10]]],
        [[1, 2], [7, 8], [3, 4], [9, 10]],
    ),
    case("stack", fields("stack", axis=-2), [X, X * 2], torch.stack([TX, TX * 2], -2)),
    case("split", fields("split", nOutputs=2), [IMAGES], *TI.split(2, 1)),
    case("splitND", fields("splitND", axis=-3, splitSizes=[1, 2, 1]), [IMAGES], *TI.split([1, 2, 1], 1)),
    case("splitND", fields("splitND", axis=1, numSplits=2), [IMAGES], *TI.split(2, 1), what="equal"),
    case("tile", fields("tile", reps=[2, 3]), [X], TX.tile(2, 3)),
    case("tile", fields("tile"), [X, [2, 1, 3]], TX.tile(2, 1, 3), what="given"),
    case("sequenceRepeat", fields("sequenceRepeat", nRepetitions=3), [FIVE], T5.tile(3, 1, 1, 1, 1)),
    case(
        "slice",
        built("slice", axis="height", start_index=1, end_index=-1, stride=2),
        [IMAGES],
        TI[:, :, 1:-1:2],
    ),
    case(
        "slice",
        built("slice", axis="channel", start_index=2, end_index=100, stride=1),
        [IMAGES],
        TI[:, 2:],
        what="channels",
    ),
    # The example of the format's documentation: input[:3:2, 2, ::2].
    case(
        "sliceStatic",
        fields(
            "sliceStatic",
            beginIds=[1, 2, 3],
            beginMasks=[True, False, True],
            endIds=[3, -3, 2],
            endMasks=[False, True, True],
            strides=[2, 2, 2],
            squeezeMasks=[False, True, False],
        ),
        [c := np.arange(125).reshape(5, 5, 5)],
        c[:3:2, 2, ::2],
    ),
    case(
        "sliceDynamic",
        fields("sliceDynamic", beginMasks=[True, False, True], endMasks=[False, True, True]),
        [c, [1, 2, 3], [3, -3, 2], [2, 2, 2]],
        c[:3:2, 2::2, ::2],
    ),
    case(
        "sliceDynamic",
        fields("sliceDynamic"),
        [c, [1, 2, 3], [3, -3, 2], [2, 2, 2], [1, 0, 1], [0, 1, 1], [0, 1, 0]],
        c[:3:2, 2, ::2],
        what="all given",
    ),
    case("sliceBySize", fields("sliceBySize", axis=1, size=2), [X, [1]], TX[:, 1:3]),
    case(
        "slidingWindows",
        fields("slidingWindows", axis=1, windowSize=2, step=1),
        [X],
        TX.unfold(1, 2, 1).permute(0, 1, 3, 2),
    ),
]
_I = np.array([[1, 0], [-1, 1]], np.float32)
_ALONG = np.array([[[2, 0, 1, 1]], [[0, 0, 2, 1]]], np.float32)
INDEXING: list[LayerCase] = [
    case("gather", fields("gather", axis=1), [X, _I], TX[:, _t(_I).long()]),
    case("gatherND", fields("gatherND"), [X, [[1, 2], [0, 0]]], TX[[1, 0], [2, 0]]),
    case("gatherAlongAxis", fields("gatherAlongAxis", axis=1), [X, _ALONG], TX.gather(1, _t(_ALONG).long())),
    case(
        "scatter",
        fields("scatter", axis=0, mode="SCATTER_ADD"),
        [np.ones(3), [2, 2, 0], [1, 2, 5]],
        [6, 1, 4],
    ),
    case(
        "scatterND",
        fields("scatterND", mode="SCATTER_MUL"),
        [[[1, 2], [3, 4]], [[1, 0], [0, 1]], [10, 100]],
        [[1, 200], [30, 4]],
    ),
    case(
        "scatterAlongAxis",
        fields("scatterAlongAxis", axis=1),
        [X, _ALONG, X[:, :1]],
        TX.scatter(1, _t(_ALONG).long(), TX[:, :1]),
    ),
    case(
        "oneHot",
        fields("oneHot", oneHotVectorSize=4, axis=-1, onValue=5, offValue=-1),
        [[2, -1]],
        [[-1, -1, 5, -1], [-1, -1, -1, -1]],
    ),
    case(
        "oneHot",
        fields("oneHot", axis=0, onValue=1),
        [[2, 0], [3]],
        [[0, 1], [0, 0], [1, 0]],
        what="size given",
    ),
    case(
        "whereNonZero",
        fields("whereNonZero"),
        [[[1, 2, 1], [0, 2, 2], [2, 1, 0]]],
        [[0, 0], [0, 1], [0, 2], [1, 1], [1, 2], [2, 0], [2, 1]],
    ),
    case("matrixBandPart", fields("matrixBandPart", numLower=1, numUpper=-1), [X], TX.triu(-1)),
    case("lowerTriangular", fields("lowerTriangular", k=-1), [X], TX.tril(-1)),
    case("upperTriangular", fields("upperTriangular", k=1), [X], TX.triu(1)),
]

TENSORS: list[LayerCase] = [
    case("loadConstant", fields("loadConstant", shape=[2, 3, 4], data=X), [], TX[None, None]),
    case("loadConstantND", fields("loadConstantND", shape=[2, 3, 4], data=X), [], TX),
    case("getShape", fields("getShape"), [X], [2, 3, 4]),
    case("fillLike", fields("fillLike", value=2.5), [X], torch.full((2, 3, 4), 2.5)),
    case("fillStatic", fields("fillStatic", value=2.5, targetShape=[2, 3]), [], torch.full((2, 3), 2.5)),
    case("fillDynamic", fields("fillDynamic", value=2.5), [[3, 2]], torch.full((3, 2), 2.5)),
    case("broadcastToLike", fields("broadcastToLike"), [X[0], np.zeros((5, 3, 4))], TX[0].expand(5, 3, 4)),
    case(
        "broadcastToStatic", fields("broadcastToStatic", targetShape=[5, 3, 4]), [X[0]], TX[0].expand(5, 3, 4)
    ),
    case("broadcastToDynamic", fields("broadcastToDynamic"), [X[0], [5, 3, 4]], TX[0].expand(5, 3, 4)),
    case(
        "rangeStatic",
        fields("rangeStatic", endValue=5, startValue=1, stepSizeValue=1.5),
        [],
        torch.arange(1, 5, 1.5),
    ),
    case("rangeDynamic", fields("rangeDynamic", startValue=1, stepSizeValue=2), [[7]], torch.arange(1, 7, 2)),
    case("rangeDynamic", fields("rangeDynamic"), [[1], [7], [-2]], torch.arange(7, 1, -2), what="all given"),
    case(
        "constantPad",
        fields("constantPad", value=2, padAmounts=[0, 0, 3, 0, 1, 2]),
        [X],
        F.pad(TX, (1, 2, 3, 0), value=2),
    ),
    case(
        "constantPad",
        fields("constantPad", padToGivenOutputSizeMode=True),
        [X, [0, 0, 7, 0, 0, 6]],
        F.pad(TX, (0, 2, 4, 0)),
        what="to a size",
    ),
]

CASES = [*CONVOLUTIONS, *POOLING, *IMAGE_LAYERS, *SHAPES, *INDEXING, *TENSORS]
