"""How far two runtimes of the personality model may differ, and why; manifests carry a copy of the table."""

from __future__ import annotations

from typing import Final

from personality_common.evidence.tolerances import Tolerance

_TEXT_PATH: Final = (
    (
        "overlap",
        "from token ids to top 8: mean share in common with PyTorch's",
        {"float32": 0.999, "float16": 0.98, "int8": 0.95},
        "what the app shows; on real texts 0.985 with int8 weights, on the few and odd golden ones less",
    ),
    (
        "worst",
        "from token ids to top 8: least share in common with PyTorch's",
        {"float32": 0.875, "float16": 0.875, "int8": 0.75},
        "a token or two of a text whose eighth and ninth are close",
    ),
    (
        "first",
        "from token ids to top 8: share of texts with the same first token",
        {"float32": 0.999, "float16": 0.9, "int8": 0.9},
        "the token that is shown first",
    ),
    (
        "shipped",
        "from token ids to top 8: mean share in common with what the stored weights give",
        {"float32": 0.999, "float16": 0.98, "int8": 0.99},
        "the same weights: only float arithmetic differs",
    ),
)
"""Measure, what it is, limit by weights of the text encoder, reason."""

TOLERANCES: Final = (
    Tolerance(
        "float32.latent",
        "float32",
        "max |difference| of latent",
        "<=",
        1e-4,
        "float32 sums of up to 2048 terms in another order; Core ML on a CPU is reported to be within 1e-4",
    ),
    Tolerance(
        "float32.logits",
        "float32",
        "max |difference| of logits",
        "<=",
        1e-4,
        "as float32.latent; the head adds 512 terms",
    ),
    Tolerance(
        "float32.top8",
        "float32",
        "mean share of the 8 top tokens in common",
        ">=",
        0.999,
        "only tokens whose logits differ by less than float32.logits may swap",
    ),
    Tolerance(
        "float32.layers",
        "float32",
        "||difference|| / ||value|| of each layer's output, on the way",
        "<=",
        1e-5,
        "rounding gives 1e-7 to 1e-6; a tanh GELU in place of the exact one 1e-4, which a trained "
        "model may hide from its logits",
    ),
    Tolerance(
        "float16.logits",
        "float16",
        "max |difference| of logits",
        "<=",
        0.3,
        "11 bits of mantissa; 0.03 to 0.09 are reported on CPUs, up to 0.3 on GPU and Neural Engine",
    ),
    Tolerance(
        "float16.top8",
        "float16",
        "mean share of the 8 top tokens in common",
        ">=",
        0.99,
        "what the app shows: at most one token in a hundred may differ",
    ),
    Tolerance(
        "float16.layers",
        "float16",
        "||difference|| / ||value|| of each layer's output, on the way",
        "<=",
        1e-2,
        "20 ops of 5e-4 each; rounding gives up to 4e-3 where a layer's terms cancel",
    ),
    Tolerance(
        "encoder-float32.cosine",
        "encoder-float32",
        "least cosine with the sentence-transformers model, each text",
        ">=",
        0.99999,
        "the same weights and arithmetic in another order",
    ),
    Tolerance(
        "encoder-float16.cosine",
        "encoder-float16",
        "least cosine with the sentence-transformers model, each text",
        ">=",
        0.999,
        "six layers in 11 bits of mantissa",
    ),
    Tolerance(
        "encoder-int8.cosine",
        "encoder-int8",
        "mean cosine with the sentence-transformers model",
        ">=",
        0.995,
        "8-bit weights, one scale per output channel",
    ),
    Tolerance(
        "encoder.padding",
        "encoder",
        "max |difference| of sentence_embedding, padded against not",
        "<=",
        1e-5,
        "masked positions have weight exp(-large) = 0; only the order of sums differs",
    ),
    Tolerance(
        "encoder-float16.padding",
        "encoder-float16",
        "max |difference| of sentence_embedding, padded against not",
        "<=",
        2e-3,
        "the order of sums decides how each of some 300 ops rounds to 11 bits; 3e-4 measured",
    ),
    *(
        Tolerance(f"text-{weights}.{key}", f"text-{weights}", what, ">=", limits[weights], reason)
        for key, what, limits, reason in _TEXT_PATH
        for weights in limits
    ),
    Tolerance(
        "patch.head",
        "patch",
        "max |difference| of the head from the PyTorch head",
        "<=",
        0.0,
        "the bytes are copied",
    ),
    Tolerance(
        "update-task.head",
        "update-task",
        "norm of the difference of the head, relative to the head",
        "<=",
        1e-6,
        "a float32 SGD step whose gradient passes through the targets of an MSE, rounded as the weights are",
    ),
    Tolerance(
        "state.logits",
        "state",
        "max |difference| of logits from those of the float32 head",
        "<=",
        0.02,
        "512 products with weights of size 5 in 11 bits of mantissa; 0.0024 measured",
    ),
    Tolerance(
        "state.head",
        "state",
        "max |difference| of the head from the PyTorch head rounded to float16",
        "<=",
        0.0,
        "rounding to nearest is exact arithmetic",
    ),
)
