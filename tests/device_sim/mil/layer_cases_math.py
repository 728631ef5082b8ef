"""Layers that compute: elementwise, products, normalizations, reductions, recurrent layers."""

from typing import Any

import numpy as np
import torch
from layer_harness import LayerCase, built, case, fields
from torch import nn
from torch.nn import functional as F

RNG = np.random.default_rng(3)
X = RNG.uniform(0.1, 0.9, (2, 3, 4)).astype(np.float32)
Y = RNG.uniform(0.1, 0.9, (3, 1)).astype(np.float32)
TX, TY = torch.from_numpy(X), torch.from_numpy(Y)
SIGNED = RNG.normal(size=(2, 3, 4)).astype(np.float32) * 2
TS = torch.from_numpy(SIGNED)
BITS = (np.array([0, 0, 2, -1], np.float32), np.array([0, 3, 0, 1], np.float32))
IMAGES = RNG.normal(size=(2, 3, 4, 5)).astype(np.float32)
TI = torch.from_numpy(IMAGES)


def _t(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, np.float32))


UNARY: list[LayerCase] = [
    case(name, fields(name), [x], function(torch.from_numpy(np.asarray(x))))
    for name, x, function in [
        ("ceil", SIGNED, torch.ceil),
        ("floor", SIGNED, torch.floor),
        ("round", np.array([-1.5, -0.5, 0.5, 1.5, 2.4, 2.6], np.float32), torch.round),
        ("sign", np.array([-2.0, 0, 3], np.float32), torch.sign),
        ("exp2", SIGNED, torch.exp2),
        ("sin", SIGNED, torch.sin),
        ("cos", SIGNED, torch.cos),
        ("tan", X, torch.tan),
        ("asin", X, torch.asin),
        ("acos", X, torch.acos),
        ("atan", SIGNED, torch.atan),
        ("sinh", SIGNED, torch.sinh),
        ("cosh", SIGNED, torch.cosh),
        ("tanh", SIGNED, torch.tanh),
        ("asinh", SIGNED, torch.asinh),
        ("acosh", X + 1, torch.acosh),
        ("atanh", X, torch.atanh),
        ("erf", SIGNED, torch.erf),
        ("copy", SIGNED, lambda x: x),
        ("logicalNot", BITS[0], lambda x: (x == 0).float()),
    ]
]

_BINARY: list[tuple[str, Any]] = [
    ("addBroadcastable", torch.add),
    ("subtractBroadcastable", torch.sub),
    ("multiplyBroadcastable", torch.mul),
    ("divideBroadcastable", torch.div),
    ("maxBroadcastable", torch.maximum),
    ("minBroadcastable", torch.minimum),
    ("powBroadcastable", torch.pow),
]
BINARY: list[LayerCase] = [
    case(name, fields(name), [X, Y], function(TX, TY)) for name, function in _BINARY
] + [
    case(name, fields(name), [SIGNED, Y], function(TS, TY), atol=3e-6)
    for name, function in [
        ("floorDivBroadcastable", lambda x, y: torch.div(x, y, rounding_mode="floor")),
        ("modBroadcastable", torch.remainder),
    ]
]
_SAME = np.array([1, 2, 3, 4], np.float32), np.array([1, 3, 2, 4], np.float32)
COMPARISONS: list[LayerCase] = [
    c
    for name, function in [
        ("equal", torch.eq),
        ("notEqual", torch.ne),
        ("lessThan", torch.lt),
        ("lessEqual", torch.le),
        ("greaterThan", torch.gt),
        ("greaterEqual", torch.ge),
    ]
    for c in (
        case(name, fields(name), _SAME, function(_t(_SAME[0]), _t(_SAME[1])).float()),
        case(name, fields(name, alpha=2.0), _SAME[:1], function(_t(_SAME[0]), 2.0).float(), what="alpha"),
    )
] + [
    case(name, fields(name), BITS, expected)
    for name, expected in [
        ("logicalAnd", [0, 0, 0, 1]),
        ("logicalOr", [0, 1, 1, 1]),
        ("logicalXor", [0, 1, 1, 0]),
    ]
]

OTHERS: list[LayerCase] = [
    case("clip", fields("clip", minVal=-0.5, maxVal=0.7), [SIGNED], TS.clamp(-0.5, 0.7)),
    case("add", fields("add"), [X, X, Y], TX + TX + TY),
    case("add", fields("add", alpha=0.5), [X], TX + 0.5, what="alpha"),
    case("multiply", fields("multiply"), [X, X, Y], TX * TX * TY),
    case("average", fields("average"), [X, X * 3, X], TX * 5 / 3),
    case("max", fields("max"), [X, 1 - X], torch.maximum(TX, 1 - TX)),
    case("min", fields("min"), [X, 1 - X], torch.minimum(TX, 1 - TX)),
    case(
        "whereBroadcastable",
        fields("whereBroadcastable"),
        [SIGNED > 0, X, Y],
        torch.where(TS > 0, TX, TY),
    ),
    case("unary", fields("unary", type="LOG", scale=2.0, shift=1.0), [X], torch.log(2 * TX + 1 + 1e-6)),
    case("activation", fields("activation", ELU={"alpha": 0.7}), [SIGNED], F.elu(TS, 0.7)),
    case("gelu", fields("gelu", mode="TANH_APPROXIMATION"), [SIGNED], F.gelu(TS, approximate="tanh")),
    case(
        "clampedReLU",
        fields("clampedReLU", alpha=0.1, beta=1.5),
        [SIGNED],
        F.leaky_relu(TS, 0.1).clamp(max=1.5),
    ),
    case("softmax", fields("softmax"), [IMAGES], torch.softmax(TI, 1)),
    case("softmaxND", fields("softmaxND", axis=-2), [IMAGES], torch.softmax(TI, -2)),
]

_W, _B = RNG.normal(size=(6, 4)).astype(np.float32), RNG.normal(size=6).astype(np.float32)
_TABLE = RNG.normal(size=(5, 7)).astype(np.float32)  # 5 numbers for each of 7 entries
_IDS = np.array([[6, 0], [3, 3]], np.float32)
_SECOND = RNG.normal(size=(5, 3)).astype(np.float32)
_C = RNG.normal(size=(2, 3, 1, 1)).astype(np.float32)
LINEAR: list[LayerCase] = [
    case(
        "innerProduct",
        fields("innerProduct", inputChannels=4, outputChannels=6, hasBias=True, weights=_W, bias=_B),
        [X],
        F.linear(TX, _t(_W), _t(_B)),
    ),
    case(
        "batchedMatmul",
        built(
            "batched_mat_mul",
            weight_matrix_rows=4,
            weight_matrix_columns=6,
            W=np.ascontiguousarray(_W.T),
            bias=_B,
        ),
        [X],
        TX @ _t(_W).T + _t(_B),
        what="weights",
    ),
    case(
        "batchedMatmul",
        fields("batchedMatmul", transposeA=True, transposeB=True),
        [X, _SECOND],
        TX.transpose(1, 2) @ _t(_SECOND).T,
        what="two",
    ),
    case("batchedMatmul", fields("batchedMatmul"), [X[0, 0], _W.T], TX[0, :1] @ _t(_W).T, what="a vector"),
    case(
        "embedding",
        built("embedding", W=_TABLE, b=_TABLE[:, 0], input_dim=7, output_channels=5, has_bias=True),
        [_IDS[..., None, None, None]],
        (F.embedding(_t(_IDS).long(), _t(_TABLE).T) + _t(_TABLE[:, 0]))[..., None, None],
    ),
    case(
        "embeddingND",
        fields("embeddingND", vocabSize=7, embeddingSize=5, weights=_TABLE),
        [_IDS[..., None]],
        F.embedding(_t(_IDS).long(), _t(_TABLE).T),
    ),
    case("dot", fields("dot"), [_C, _C * 2], (_t(_C) * _t(_C) * 2).sum(1, keepdim=True)),
    case(
        "dot",
        fields("dot", cosineSimilarity=True),
        [_C, _C[::-1].copy()],
        F.cosine_similarity(_t(_C), _t(_C).flip(0), 1)[:, None],
        what="cosine",
    ),
]
_G, _BE = RNG.uniform(0.5, 2, 3).astype(np.float32), RNG.normal(size=3).astype(np.float32)
_SEVEN = RNG.normal(size=(1, 7, 2, 2)).astype(np.float32)
NORMALIZATIONS: list[LayerCase] = [
    case(
        "batchnorm",
        fields("batchnorm", channels=3, epsilon=1e-3, gamma=_G, beta=_BE, mean=_BE, variance=_G),
        [IMAGES],
        F.batch_norm(TI, _t(_BE), _t(_G), _t(_G), _t(_BE), eps=1e-3),
        atol=3e-6,
    ),
    case(
        "batchnorm",
        fields("batchnorm", channels=3, computeMeanVar=True, epsilon=1e-3, gamma=_G, beta=_BE),
        [IMAGES],
        F.batch_norm(TI, None, None, _t(_G), _t(_BE), training=True, eps=1e-3),
        what="of the batch",
        atol=3e-6,
    ),
    case(
        "batchnorm",
        fields("batchnorm", channels=3, computeMeanVar=True, instanceNormalization=True, gamma=_G, beta=_BE),
        [IMAGES],
        F.instance_norm(TI, weight=_t(_G), bias=_t(_BE), eps=1e-5),
        what="of each image",
        atol=3e-6,
    ),
    case(
        "mvn",
        built("mvn", across_channels=True, normalize_variance=True, epsilon=1e-3),
        [IMAGES],
        F.layer_norm(TI, (3, 4, 5), eps=1e-3),
        atol=3e-6,
    ),
    case("mvn", fields("mvn"), [IMAGES], TI - TI.mean((2, 3), keepdim=True), what="mean only"),
    case(
        "l2normalize",
        fields("l2normalize", epsilon=0.5),
        [IMAGES],
        TI / (TI.square().sum((1, 2, 3), keepdim=True) + 0.5).sqrt(),
    ),
    case(
        "lrn",
        built("lrn", alpha=0.7, beta=0.6, local_size=3, k=2.0),
        [_SEVEN],
        F.local_response_norm(_t(_SEVEN), 3, 0.7, 0.6, 2.0),
    ),
    case(
        "layerNormalization",
        fields("layerNormalization", normalizedShape=[3, 4], eps=1e-3, gamma=X[0], beta=X[1]),
        [SIGNED],
        F.layer_norm(TS, [3, 4], TX[0], TX[1], 1e-3),
        atol=3e-6,
    ),
    case(
        "scale",
        built("scale", W=_G, b=IMAGES[0], has_bias=True, shape_scale=[3], shape_bias=[3, 4, 5]),
        [IMAGES],
        TI * _t(_G).reshape(3, 1, 1) + TI[0],
    ),
    case("bias", built("bias", b=IMAGES[0, :1], shape_bias=[1, 4, 5]), [IMAGES], TI + TI[0, :1]),
]
_REDUCED = [
    ("L1", lambda x, a, k: x.abs().sum(a, keepdim=k)),
    ("L2", lambda x, a, k: x.square().sum(a, keepdim=k).sqrt()),
    ("Max", lambda x, a, k: x.amax(a, keepdim=k)),
    ("Min", lambda x, a, k: x.amin(a, keepdim=k)),
    ("Sum", lambda x, a, k: x.sum(a, keepdim=k)),
    ("Prod", lambda x, a, k: x.prod(a[0], keepdim=k)),
    ("Mean", lambda x, a, k: x.mean(a, keepdim=k)),
    ("LogSum", lambda x, a, k: x.sum(a, keepdim=k).log()),
    ("SumSquare", lambda x, a, k: x.square().sum(a, keepdim=k)),
    ("LogSumExp", lambda x, a, k: x.logsumexp(a, keepdim=k)),
]
REDUCTIONS: list[LayerCase] = [
    c
    for name, function in _REDUCED
    for c in (
        case(
            f"reduce{name}", fields(f"reduce{name}", axes=[-2], keepDims=True), [X], function(TX, (1,), True)
        ),
        case(
            f"reduce{name}",
            fields(f"reduce{name}", reduceAll=True),
            [X],
            function(TX.flatten(), (0,), False),
            what="all",
        ),
    )
]
_PLAIN = [
    ("SUM", "HW", TI.sum((2, 3), keepdim=True)),
    ("AVG", "CHW", TI.mean((1, 2, 3), keepdim=True)),
    ("PROD", "W", TI.prod(3, keepdim=True)),
    ("SUMSQUARE", "H", TI.square().sum(2, keepdim=True)),
    ("L1", "C", TI.abs().sum(1, keepdim=True)),
    ("L2", "HW", TI.square().sum((2, 3), keepdim=True).sqrt()),
    ("MAX", "CHW", TI.amax((1, 2, 3), keepdim=True)),
    ("MIN", "C", TI.amin(1, keepdim=True)),
    ("ARGMAX", "H", TI.argmax(2, keepdim=True).float()),
]
REDUCTIONS += [
    case("reduce", fields("reduce", mode=mode, axis=axis), [IMAGES], expected, what=mode, atol=3e-6)
    for mode, axis, expected in _PLAIN
]
_TIES = np.array([[3, 1, 3, 2], [5, 9, 1, 9]], np.float32)
REDUCTIONS += [
    case("argMax", fields("argMax", axis=-1), [X], TX.argmax(-1, keepdim=True).float()),
    case("argMin", fields("argMin", axis=1, removeDim=True), [X], TX.argmin(1).float()),
    case("topK", fields("topK", axis=-1, K=2), [_TIES], [[3, 3], [9, 9]], [[0, 2], [1, 3]]),
    case(
        "topK",
        fields("topK", axis=-1, useBottomK=True),
        [_TIES, [3]],
        [[1, 2, 3], [1, 5, 9]],
        [[1, 3, 0], [2, 0, 1]],
        what="bottom, K given",
    ),
    case("argSort", fields("argSort", axis=1), [[[3, 5, 32], [3, 77, 6]]], [[0, 1, 2], [0, 2, 1]]),
    case(
        "argSort",
        fields("argSort", descending=True),
        [[3.1, 5.4, 32.9, 3.2, 77.0]],
        [4, 2, 1, 3, 0],
        what="descending",
    ),
    case("cumSum", fields("cumSum", axis=0), [[4, 6, 7]], [4, 10, 17]),
    case(
        "cumSum", fields("cumSum", excludeFinalSum=True, reverse=True), [[4, 6, 7]], [13, 7, 0], what="both"
    ),
]

_STEPS = RNG.normal(size=(5, 2, 3)).astype(np.float32)
_H, _CELL = RNG.normal(size=(2, 2, 4)).astype(np.float32), RNG.normal(size=(2, 2, 4)).astype(np.float32)
_FIVE = _STEPS[..., None, None]


def _gates(layer: nn.Module, order: str, of: str, suffix: str = "") -> dict[str, np.ndarray]:
    """torch's weights of each gate, by its letter; `of` is the order in torch."""
    names = {"W": "weight_ih_l0", "R": "weight_hh_l0", "b": "bias_ih_l0"}
    found: dict[str, np.ndarray] = {}
    for kind, name in names.items():
        parts = getattr(layer, name + suffix).detach().numpy().reshape(len(of), 4, -1)
        found |= {kind + gate: parts[of.index(gate)] for gate in order}
    return found


def _recurrent() -> list[LayerCase]:
    torch.manual_seed(1)
    rnn, gru, lstm, both = (
        nn.RNN(3, 4),
        nn.GRU(3, 4),
        nn.LSTM(3, 4),
        nn.LSTM(3, 4, bidirectional=True),
    )
    for layer in (rnn, gru, lstm, both):
        for name, value in layer.named_parameters():
            if "bias_hh" in name:  # the format has one bias for both products
                value.data.zero_()
    # torch's GRU resets the product with h, the format h itself: they agree where the gate is 1.
    gru.get_parameter("bias_ih_l0").data[:4] = 40
    x = torch.from_numpy(_STEPS)
    h, c = torch.from_numpy(_H), torch.from_numpy(_CELL)
    w = _gates(rnn, "h", "h")
    cases = [
        case(
            "simpleRecurrent",
            built(
                "simple_rnn",
                W_h=w["Rh"],
                W_x=w["Wh"],
                b=w["bh"],
                hidden_size=4,
                input_size=3,
                activation="TANH",
                output_all=True,
                reverse_input=True,
            ),
            [_FIVE, _H[:1, ..., None, None]],
            rnn(x.flip(0), h[:1])[0][..., None, None],
            rnn(x.flip(0), h[:1])[1][..., None, None],
        )
    ]
    w = _gates(gru, "zrn", "rzn")
    cases.append(
        case(
            "gru",
            built(
                "gru",
                W_h=[w["Rz"], w["Rr"], w["Rn"]],
                W_x=[w["Wz"], w["Wr"], w["Wn"]],
                b=[w["bz"], w["br"], w["bn"]],
                hidden_size=4,
                input_size=3,
                activation="TANH",
                inner_activation="SIGMOID",
                output_all=True,
            ),
            [_FIVE, _H[:1, ..., None, None]],
            gru(x, h[:1])[0][..., None, None],
            gru(x, h[:1])[1][..., None, None],
        )
    )

    def split(suffix: str = "", layer: nn.Module = lstm) -> tuple[list[np.ndarray], ...]:
        w = _gates(layer, "ifog", "ifgo", suffix)
        return tuple([w[kind + gate] for gate in "ifog"] for kind in "RWb")

    recursion, entering, biases = split()
    y, (last_h, last_c) = lstm(x, (h[:1], c[:1]))
    cases.append(
        case(
            "uniDirectionalLSTM",
            built(
                "unilstm", W_h=recursion, W_x=entering, b=biases, hidden_size=4, input_size=3, output_all=True
            ),
            [_FIVE, _H[:1, ..., None, None], _CELL[:1, ..., None, None]],
            *(v[..., None, None] for v in (y, last_h, last_c)),
        )
    )
    recursion, entering, biases = split("", both)
    back = split("_reverse", both)
    y, (last_h, last_c) = both(x, (h, c))
    states = [_H[:1], _CELL[:1], _H[1:], _CELL[1:]]
    cases.append(
        case(
            "biDirectionalLSTM",
            built(
                "bidirlstm",
                W_h=recursion,
                W_x=entering,
                b=biases,
                W_h_back=back[0],
                W_x_back=back[1],
                b_back=back[2],
                hidden_size=4,
                input_size=3,
                output_all=True,
            ),
            [_FIVE, *(state[..., None, None] for state in states)],
            *(v[..., None, None] for v in (y, last_h[:1], last_c[:1], last_h[1:], last_c[1:])),
        )
    )
    return cases


CASES = [
    *UNARY,
    *BINARY,
    *COMPARISONS,
    *OTHERS,
    *LINEAR,
    *NORMALIZATIONS,
    *REDUCTIONS,
    *_recurrent(),
]
