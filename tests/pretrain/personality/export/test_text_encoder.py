"""The exported text encoder against SentenceTransformer, and its bytes against the weights' file."""

import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from device_sim.mil import load_mil
from personality_common.coreml.package import Package
from personality_common.coreml.program import constants
from personality_common.errors import DataError, ToolkitError
from personality_common.text.bert_folder import wordpiece_vocabulary
from personality_common.text.encoder import find_minilm
from personality_common.text.wordpiece import WordPiece
from pretrain.personality.export.config import EncoderWeights
from pretrain.personality.export.encoder import convert_text_encoder
from pretrain.personality.model import EmbeddingProjector
from pretrain.personality.text_encoder import load_text_encoder

FIXTURE = Path(__file__).parents[4] / "fixtures" / "conversations.jsonl"
NAMES = ("sentence_embedding", "embedding")
Outputs = dict[str, NDArray[np.float32]]


def build_text_encoder(folder: Path, projector: EmbeddingProjector, weights: EncoderWeights = "int8") -> Any:
    return convert_text_encoder(load_text_encoder(folder, projector), weights)


@pytest.fixture(scope="session")
def folder() -> Path:
    return find_minilm()[0]


@pytest.fixture(scope="session")
def projector() -> EmbeddingProjector:
    """Nothing in it is 0 or 1, as after training."""
    torch.manual_seed(0)
    projector = EmbeddingProjector().eval()
    with torch.no_grad():
        projector.norm.weight.uniform_(0.5, 1.5)
        projector.norm.bias.normal_()
    return projector


@pytest.fixture(scope="session")
def packages(
    folder: Path, projector: EmbeddingProjector, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    paths = {"float32": root / "float32.mlpackage", "int8": root / "int8.mlpackage"}
    build_text_encoder(folder, projector, "float32").save(str(paths["float32"]))
    build_text_encoder(folder, projector).save(str(paths["int8"]))
    return paths


@pytest.fixture(scope="session")
def run(packages: dict[str, Path], token_ids: list[list[int]]) -> Any:
    """(precision, ids, mask) -> outputs."""
    models = {precision: load_mil(path) for precision, path in packages.items()}

    def run(precision: str, ids: list[int], mask: list[int]) -> Outputs:
        inputs = {"input_ids": [ids], "attention_mask": [mask]}
        arrays = {name: np.array(value, np.int32) for name, value in inputs.items()}
        return dict(models[precision].predict(arrays))

    return run


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """20 texts, from the empty one to one that is cut off."""
    lines = FIXTURE.read_text(encoding="utf-8").splitlines()[:60]
    turns = [turn["value"] for line in lines for turn in json.loads(line)["conversations"]]
    return ["", "Hi", *turns[:12], *(" ".join(turns[:n]) for n in (3, 5, 8, 12, 16, 60))]


@pytest.fixture(scope="session")
def token_ids(folder: Path, texts: list[str]) -> list[list[int]]:
    wordpiece = WordPiece(wordpiece_vocabulary(folder).decode().split("\n")[:-1])
    return [wordpiece.ids(text) for text in texts]


@pytest.fixture(scope="session")
def expected(folder: Path, projector: EmbeddingProjector, texts: list[str]) -> Outputs:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        # One at a time: no padding takes part.
        base = np.concatenate([model.encode([text], show_progress_bar=False) for text in texts])
    with torch.no_grad():
        return {"sentence_embedding": base, "embedding": projector(torch.from_numpy(base)).numpy()}


def cosines(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_lengths_that_are_tested(token_ids: list[list[int]]) -> None:
    lengths = sorted(map(len, token_ids))
    assert (lengths[0], lengths[1], lengths[-1]) == (2, 3, 256)
    assert any(100 < length < 256 for length in lengths)


@pytest.mark.parametrize(
    ("precision", "worst", "mean", "atol"),
    # Float32 differs by the order of its sums alone. Int8 was measured at 0.9992 and 0.994 on 500 texts.
    [("float32", 0.999999, 0.999999, 2e-6), ("int8", 0.985, 0.995, 0.05)],
)
def test_agreement_with_sentence_transformers(
    precision: str,
    worst: float,
    mean: float,
    atol: float,
    run: Any,
    token_ids: list[list[int]],
    expected: Outputs,
) -> None:
    outputs = [run(precision, ids, [1] * len(ids)) for ids in token_ids]
    for name in NAMES:
        found = np.concatenate([output[name] for output in outputs])
        assert found.shape == expected[name].shape
        assert found.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(found, expected[name], rtol=0, atol=atol)
        assert cosines(found, expected[name]).min() >= worst
        assert cosines(found, expected[name]).mean() >= mean


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_padding_changes_nothing(precision: str, run: Any, token_ids: list[list[int]]) -> None:
    """Whatever its ids are. Sums in another order moved values by 2e-7 at most."""
    draw = np.random.default_rng(0)
    for ids, length in [(token_ids[0], 3), (token_ids[1], 256), (token_ids[4], 40), (token_ids[15], 256)]:
        assert len(ids) < length
        alone = run(precision, ids, [1] * len(ids))
        mask = [1] * len(ids) + [0] * (length - len(ids))
        for padding in ([0] * length, draw.integers(0, 30522, length).tolist()):
            padded = run(precision, (ids + padding)[:length], mask)
            for name in NAMES:
                np.testing.assert_allclose(padded[name], alone[name], rtol=0, atol=2e-6)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_features(precision: str, packages: dict[str, Path]) -> None:
    spec = Package.open(packages[precision]).spec
    assert spec.specificationVersion == 8  # iOS 17
    arrays = {f.name: f.type.multiArrayType for f in (*spec.description.input, *spec.description.output)}
    assert list(arrays) == ["input_ids", "attention_mask", "sentence_embedding", "embedding"]
    for name in ("input_ids", "attention_mask"):
        ranges = [(r.lowerBound, r.upperBound) for r in arrays[name].shapeRange.sizeRanges]
        assert ranges == [(1, 1), (2, 256)]
        assert list(arrays[name].shape) == [1, 128]
        assert arrays[name].dataType == arrays[name].INT32
    for name, width in (("sentence_embedding", 384), ("embedding", 1536)):
        assert list(arrays[name].shape) == [1, width]
        assert arrays[name].dataType == arrays[name].FLOAT32


def parameters(folder: Path, projector: EmbeddingProjector) -> dict[str, NDArray[np.float32]]:
    """What embeddings depend on: all of the file but the pooler, the rows in use of two tables."""
    tensors = load_file(folder / "model.safetensors")
    kept = {
        name: array
        for name, array in tensors.items()
        if not name.startswith("pooler.") and not name.endswith("position_ids")
    }
    kept["embeddings.position_embeddings.weight"] = kept["embeddings.position_embeddings.weight"][:256]
    kept["embeddings.token_type_embeddings.weight"] = kept["embeddings.token_type_embeddings.weight"][0]
    return kept | {name: value.numpy() for name, value in projector.state_dict().items()}


def stored(path: Path) -> list[Any]:
    return [c for c in constants(Package.open(path)) if c.location is not None]


def test_float32_parameters_are_there_byte_for_byte(
    packages: dict[str, Path], folder: Path, projector: EmbeddingProjector
) -> None:
    wanted = parameters(folder, projector)
    found = [c.read() for c in stored(packages["float32"])]
    floats = [array for array in found if array.dtype == np.float32 and array.size > 1]
    assert len(wanted) == 105
    missing = {array.tobytes() for array in wanted.values()} - {array.tobytes() for array in floats}
    assert missing == set()
    assert sum(array.nbytes for array in floats) == sum(array.nbytes for array in wanted.values())


def test_int8_values_are_the_nearest(
    packages: dict[str, Path], folder: Path, projector: EmbeddingProjector
) -> None:
    """Scale and values from their definition: a row's range in 255 steps, each value within half a step.

    What is float16 is what the benchmark chose.
    """
    wanted = parameters(folder, projector)
    tables = [array for array in wanted.values() if array.ndim == 2]
    by_name: dict[str, dict[str, Any]] = {}
    halves: list[str] = []
    for constant in constants(Package.open(packages["int8"])):
        output, _, key = constant.name.rpartition(".")
        if key in ("quantized_data", "scale", "zero_point", "axis"):
            by_name.setdefault(output, {})[key] = constant.read()
        if key == "source_val":
            assert constant.read().dtype == np.float16
            halves.append(output.removesuffix("_half"))
    assert len(by_name) + len(halves) == len(tables) == 39
    assert sorted(halves) == sorted(
        [f"layer_{i}_{n}_weight" for i in range(6) for n in ("output_dense", "attention_self_value")]
        + [f"layer_{i}_intermediate_dense_weight" for i in (3, 4)]
        + ["position_embeddings"]
    )
    unmatched = list(tables)
    for parts in by_name.values():
        assert parts["quantized_data"].dtype == np.int8
        assert parts["axis"] == 0
        scales, zero = (parts[key].reshape(-1, 1).astype(np.float64) for key in ("scale", "zero_point"))
        values = parts["quantized_data"] - zero
        close = [
            i
            for i, table in enumerate(unmatched)
            if table.shape == values.shape
            and np.abs(table - values * scales).max() < np.abs(table).max() * 0.01
        ]
        assert len(close) == 1
        table = unmatched.pop(close[0])
        span = np.maximum(table.max(1, keepdims=True), 0) - np.minimum(table.min(1, keepdims=True), 0)
        np.testing.assert_allclose(scales, span / 255, rtol=1e-6)
        # float32 rounds the quotient before it is rounded to an integer.
        assert np.all(np.abs(table - values * scales) <= scales * (0.5 + 1e-4))


def test_int8_leaves_vectors_as_they_are(
    packages: dict[str, Path], folder: Path, projector: EmbeddingProjector
) -> None:
    vectors = {array.tobytes() for array in parameters(folder, projector).values() if array.ndim == 1}
    found = {c.read().tobytes() for c in stored(packages["int8"])}
    assert vectors - found == set()


# Below, an encoder of one small layer: what is checked does not depend on the size.


@pytest.fixture
def small(tmp_path: Path) -> Path:
    hidden, inner = 384, 64
    draw = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (50, hidden),
        "embeddings.position_embeddings.weight": (512, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        "pooler.dense.weight": (hidden, hidden),
    }
    for name, rows, columns in [
        *((f"attention.self.{n}", hidden, hidden) for n in ("query", "key", "value")),
        ("attention.output.dense", hidden, hidden),
        ("intermediate.dense", inner, hidden),
        ("output.dense", hidden, inner),
    ]:
        shapes[f"encoder.layer.0.{name}.weight"] = (rows, columns)
        shapes[f"encoder.layer.0.{name}.bias"] = (rows,)
    for norm, part in itertools.product(
        ("embeddings", "encoder.layer.0.attention.output", "encoder.layer.0.output"), ("weight", "bias")
    ):
        shapes[f"{norm}.LayerNorm.{part}"] = (hidden,)
    tensors = {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "1_Pooling").mkdir()
    for file, value in {
        "modules.json": [
            {"type": f"sentence_transformers.models.{kind}", "path": path}
            for kind, path in [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
        ],
        "config.json": {
            "model_type": "bert",
            "hidden_act": "gelu",
            "vocab_size": 50,
            "max_position_embeddings": 512,
            "type_vocab_size": 2,
            "hidden_size": hidden,
            "num_hidden_layers": 1,
            "num_attention_heads": 12,
            "intermediate_size": inner,
            "layer_norm_eps": 1e-12,
        },
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
        "sentence_bert_config.json": {"max_seq_length": 256},
    }.items():
        (tmp_path / file).write_text(json.dumps(value), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_tensors_that_are_only_close_stay_apart(
    precision: Any, small: Path, projector: EmbeddingProjector
) -> None:
    """The converter's own pass would keep one for all three: it looks at the first hundred values,
    then for differences above 1e-12."""
    file = small / "model.safetensors"
    tensors = load_file(file)
    names = [f"encoder.layer.0.attention.self.{name}.bias" for name in ("query", "key", "value")]
    for i, name in enumerate(names):
        tensors[name] = np.full(384, 0.25, np.float32)
        tensors[name][200] = i * 4e-13
    save_file(tensors, file)
    build_text_encoder(small, projector, precision).save(str(small / "e.mlpackage"))
    found = {c.read().tobytes() for c in stored(small / "e.mlpackage")}
    assert {tensors[name].tobytes() for name in names} <= found


def test_flat_parameters_are_stored_as_well(small: Path) -> None:
    """A converter may drop zeros and ones, or write them into the program."""
    projector = EmbeddingProjector()  # its LayerNorm is 1 and 0
    torch.nn.init.zeros_(projector.linear.bias)
    build_text_encoder(small, projector, "float32").save(str(small / "e.mlpackage"))
    found = {c.read().tobytes() for c in stored(small / "e.mlpackage")}
    assert {array.numpy().tobytes() for array in projector.state_dict().values()} - found == set()


def test_float16_values_are_the_nearest(small: Path, projector: EmbeddingProjector) -> None:
    build_text_encoder(small, projector, "float16").save(str(small / "e.mlpackage"))
    found = [c.read() for c in stored(small / "e.mlpackage")]
    assert {array.dtype for array in found if array.dtype.kind == "f" and array.size > 1} == {np.dtype("<f2")}
    wanted = {array.astype(np.float16).tobytes() for array in parameters(small, projector).values()}
    assert wanted - {array.tobytes() for array in found} == set()


def test_converting_twice_gives_the_same_bytes(small: Path, projector: EmbeddingProjector) -> None:
    """All of program and weights; only the package's identifiers and the date of conversion may differ."""
    packages = []
    for name in ("a.mlpackage", "b.mlpackage"):
        build_text_encoder(small, projector).save(str(small / name))
        packages.append(Package.open(small / name))
    first, second = (p.spec.mlProgram.SerializeToString(deterministic=True) for p in packages)
    assert first == second
    weights = [next(p.path.rglob("weight.bin")).read_bytes() for p in packages]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("file", "change", "complaint"),
    [
        ("config.json", {"model_type": "roberta"}, "model_type is 'bert', this one's is 'roberta'"),
        ("config.json", {"hidden_act": "relu"}, "hidden_act is 'gelu'"),
        ("config.json", {"position_embedding_type": "relative_key"}, "position_embedding_type is 'absolute'"),
        ("config.json", {"is_decoder": True}, "is_decoder is False"),
        ("config.json", {"num_hidden_layers": 2}, "encoder.layer.1"),
        ("config.json", {"num_hidden_layers": "6"}, "num_hidden_layers"),
        ("config.json", {"num_hidden_layers": 101}, "num_hidden_layers"),
        ("config.json", {"hidden_size": 0}, "hidden_size"),
        ("config.json", {"hidden_size": 768}, "384"),
        ("config.json", {"num_attention_heads": 7}, "heads must divide"),
        ("config.json", {"intermediate_size": 65}, "must have the shape (65, 384), has (64, 384)"),
        ("config.json", {"layer_norm_eps": "tiny"}, "layer_norm_eps"),
        ("config.json", {"max_position_embeddings": 128}, "256 positions"),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": True}, "pooling is ['mean']"),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "pooling is ['mean']"),
        ("sentence_bert_config.json", {"max_seq_length": 128}, "maximum length is 256"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "prompt is None"),
    ],
)
def test_other_architectures_are_refused(
    file: str, change: dict[str, Any], complaint: str, small: Path, projector: EmbeddingProjector
) -> None:
    path = small / file
    value = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(value | change), encoding="utf-8")
    with pytest.raises(ToolkitError) as refusal:
        build_text_encoder(small, projector)
    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("modules", "complaint"),
    [
        ([], "modules is"),
        ({}, "must be a JSON list"),
        ([1, 2, 3], "modules is"),
        ([{"type": "a.Transformer", "path": ""}, {"type": "a.Pooling", "path": "1_Pooling"}], "modules is"),
        (
            [
                {"type": f"a.{k}", "path": p}
                for k, p in [("Transformer", ""), ("Pooling", "../x"), ("Normalize", "")]
            ],
            "must lie in the folder",
        ),
    ],
)
def test_other_modules_are_refused(
    modules: Any, complaint: str, small: Path, projector: EmbeddingProjector
) -> None:
    (small / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises(ToolkitError) as refusal:
        build_text_encoder(small, projector)
    assert complaint in str(refusal.value)


@pytest.mark.parametrize("content", [None, b"", b"\x00" * 64, b"not tensors"])
def test_broken_weights_are_refused(
    content: bytes | None, small: Path, projector: EmbeddingProjector
) -> None:
    path = small / "model.safetensors"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(DataError, match=r"model\.safetensors"):
        build_text_encoder(small, projector)


def test_layout_of_newer_sentence_transformers(small: Path, projector: EmbeddingProjector) -> None:
    (small / "1_Pooling/config.json").write_text('{"pooling_mode": "mean"}', encoding="utf-8")
    (small / "sentence_bert_config.json").write_text("{}", encoding="utf-8")
    (small / "tokenizer_config.json").write_text('{"model_max_length": 256}', encoding="utf-8")
    assert build_text_encoder(small, projector).get_spec().specificationVersion == 8
