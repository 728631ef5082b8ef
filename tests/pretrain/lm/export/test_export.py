"""The exported folder: in llama.cpp, in transformers, and its bytes."""

import json
import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, AutoTokenizer

from personality_common.bundle.files import file_table
from personality_common.errors import ConfigError, DataError, MismatchError, ToolkitError
from personality_common.files.typed import from_json
from personality_common.terminal.progress import Silent
from pretrain.lm.bundle.comparison import compare
from pretrain.lm.bundle.folder import open_folder
from pretrain.lm.bundle.gguf_file import GgufFile, read_gguf
from pretrain.lm.bundle.manifest import Manifest, gguf_file
from pretrain.lm.bundle.names import tensor_names
from pretrain.lm.chat import SPECIAL_TOKENS
from pretrain.lm.config import QUANTIZATIONS, ExportConfig, ModelConfig, Quantization
from pretrain.lm.export.folder import export
from pretrain.lm.export.gguf import write_gguf
from pretrain.lm.llama import Llama
from pretrain.lm.model import Decoder, generate
from pretrain.lm.run import Run
from pretrain.lm.tokenizer import Tokenizer

PROMPT = "The quick brown fox: don't ask 1234 times, naïve 日本語."


@torch.inference_mode()
def torch_log_probabilities(model: Decoder, ids: list[int]) -> NDArray[np.float32]:
    """(T, V), of the token after each."""
    found: NDArray[np.float32] = torch.log_softmax(model(torch.tensor([ids]))[0], -1).numpy()
    return found


def dequantized(file: GgufFile, config: ModelConfig) -> Decoder:
    """A decoder with a file's own weights."""
    model = Decoder(config).eval()
    weights = {n.ours: torch.from_numpy(file.values(n.gguf)) for n in tensor_names(config)}
    model.load_state_dict(weights)
    return model


@pytest.mark.parametrize(("quantization", "most"), [("f32", 3e-3), ("q8_0", None), ("q4_k_m", None)])
def test_llama_cpp_computes_what_torch_does(
    lm_run: Run, lm_folder: Path, quantization: Quantization, most: float | None
) -> None:
    """Against the checkpoint in float32. Against a quantized file's own weights, ggml also rounds what it
    multiplies them with to 8 bits, a value in 127 of the largest: hence the looser bar there."""
    path = lm_folder / gguf_file(quantization)
    model = lm_run.model if most else dequantized(read_gguf(path), lm_run.model.config)
    ids = lm_run.tokenizer.encode(PROMPT)
    expected = torch_log_probabilities(model, ids)
    llama = Llama(path, exact=True)
    for length in (1, 2, len(ids) // 2, len(ids)):
        found = llama.log_probabilities(ids[:length])
        np.testing.assert_allclose(found, expected[length - 1], rtol=0, atol=most or 0.1)
    if most:
        prompts = [ids[:length] for length in (1, 5, 9)]
        told = [list(generate(model, prompt, 64, (1,))) for prompt in prompts]
        assert [llama.generate(prompt, 64).ids for prompt in prompts] == told
        assert max(map(len, told)) == 64


def test_llama_cpp_ends_where_the_model_says_so(lm_run: Run, tmp_path: Path) -> None:
    """At `<|end|>`, and at no other special token, though it has a list of names that it takes for ends."""
    special = len(SPECIAL_TOKENS)
    order = [special, 0, *range(2, special), 1]
    model = Decoder(lm_run.model.config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if name == "norm.weight" else 0.0)
        # Each token is 2.5 times the one before, and shares a direction with it, so that after a token the
        # next is likeliest, though what reads a token is what says it.
        for place, token in enumerate(order):
            for direction, share in ((place, 1.0), (place - 1, 0.9)):
                model.embedding.weight[token, 2 * direction % 64] = share * 2.5**place
                model.embedding.weight[token, 2 * direction % 64 + 1] = -share * 2.5**place
    write_gguf(tmp_path / "model.gguf", model, lm_run.tokenizer, "f32", {})
    assert list(generate(model, order[:1], 30, (1,))) == order[1:-1]
    found = Llama(tmp_path / "model.gguf", exact=True).generate(order[:1], 30)
    assert found.ids == order[1:-1]
    assert found.ended


def test_transformers_computes_the_same(lm_run: Run, lm_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(lm_folder / "hf", local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(
        lm_folder / "hf", local_files_only=True, attn_implementation="eager"
    )
    ids = lm_run.tokenizer.encode(PROMPT)
    assert tokenizer(PROMPT, add_special_tokens=False).input_ids == ids
    assert tokenizer.decode(ids) == PROMPT
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, len(tokenizer)) == (1, 0, 640)
    with torch.inference_mode():
        found = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1).numpy()
    np.testing.assert_allclose(found, torch_log_probabilities(lm_run.model, ids), rtol=0, atol=1e-5)
    told = model.generate(torch.tensor([ids]), max_new_tokens=32)[0, len(ids) :].tolist()
    assert told == list(generate(lm_run.model, ids, 32, (1,)))[: len(told)]


def test_every_tensor_of_every_file_is_the_checkpoints(lm_run: Run, lm_folder: Path) -> None:
    """Rounded as torch rounds; in blocks, the file is byte for byte what ggml makes of the numbers."""
    weights = lm_run.model.state_dict()
    exact = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    seen = set()
    for quantization in QUANTIZATIONS:
        # By the package's own reader, which shares nothing with ours.
        reader = gguf.GGUFReader(lm_folder / gguf_file(quantization))
        found = {tensor.name: tensor for tensor in reader.tensors}
        assert len(found) == len(weights)
        for n in tensor_names(lm_run.model.config):
            tensor, kind = found[n.gguf], found[n.gguf].tensor_type.name
            seen.add(kind)
            assert tuple(reversed(tensor.shape)) == tuple(weights[n.ours].shape)
            if kind in exact:
                expected = weights[n.ours].to(exact[kind]).view(torch.uint8).numpy().reshape(-1)
                assert np.array_equal(np.ascontiguousarray(tensor.data).view(np.uint8).reshape(-1), expected)
    assert seen == {"F32", "F16", "BF16", "Q8_0", "Q5_0", "Q4_0", "Q4_K", "Q6_K"}


def test_a_run_exported_twice_gives_the_same_bytes(lm_run: Run, lm_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(lm_folder, tmp_path / "out")
    # Over an earlier export; all that it had and this has not goes.
    export(ExportConfig(lm_run.path, tmp_path / "out", quantize=("f32", "q4_k_m", "q5_0")), Silent())
    again, first = file_table(tmp_path / "out"), file_table(lm_folder)
    gone = {gguf_file(q) for q in ("f16", "bf16", "q8_0", "q4_0", "q6_k")}
    assert first.keys() - again.keys() == gone
    del again["Modelfile"]
    assert all(first[name] == entry for name, entry in again.items())


def test_the_manifest_says_what_is_there(lm_run: Run, lm_folder: Path) -> None:
    manifest = from_json(Manifest, json.loads((lm_folder / "manifest.json").read_text()), "manifest.json")
    assert manifest.files == file_table(lm_folder)
    assert manifest.model == lm_run.model.config
    assert [entry.quantization for entry in manifest.gguf] == list(QUANTIZATIONS)
    differences = {entry.quantization: entry.largest_difference for entry in manifest.gguf}
    assert differences["f32"] == 0
    assert 0 < differences["f16"] < differences["bf16"] < differences["q8_0"] < differences["q5_0"]
    row = json.loads((lm_folder / "golden.json").read_text())["rows"][0]
    expected = torch_log_probabilities(lm_run.model, row["ids"])[-1]
    assert row["top_ids"] == np.argsort(-expected)[:20].tolist()
    np.testing.assert_allclose(row["top_log_probabilities"], np.sort(expected)[::-1][:20], atol=1e-5)
    assert len(row["greedy"]) == 64 or lm_run.model.config.context_length < 128


@pytest.mark.parametrize("key", ["ids", "top_ids", "greedy", "rows"])
def test_golden_rows_are_of_the_model(lm_folder: Path, tmp_path: Path, key: str) -> None:
    """A row may not name a token that the model lacks; and no rows prove nothing."""
    folder = shutil.copytree(lm_folder, tmp_path / "folder")
    content = json.loads((folder / "golden.json").read_text())
    if key == "rows":
        content["rows"] = []
    else:
        content["rows"][0][key][0] = open_folder(folder).manifest.model.vocab_size
    (folder / "golden.json").write_text(json.dumps(content))
    assert open_folder(lm_folder).golden()
    with pytest.raises(DataError, match=r"must have rows|must be of ids and figures of this model"):
        open_folder(folder).golden()


def changed(path: Path, name: str, change: str) -> None:
    file = read_gguf(path)
    data = bytearray(path.read_bytes())
    tensor = file.tensors[name]
    place = slice(tensor.offset, tensor.offset + tensor.bytes)
    if change == "a bit":
        data[tensor.offset + 2] ^= 0x40
    elif change == "transposed":
        values = np.frombuffer(data[place], np.float32).reshape(tensor.shape)
        data[place] = np.ascontiguousarray(values.T).tobytes()
    elif change == "a row further":
        data[place] = np.roll(np.frombuffer(data[place], np.uint8), tensor.bytes // tensor.shape[0]).tobytes()
    elif change == "infinite":
        # The scale of the first block: the last two bytes of a block in Q6_K, else the first.
        at = tensor.offset + (tensor.type.bytes - 2 if tensor.type.name == "Q6_K" else 0)
        data[at : at + 2] = b"\x00\x7c"
    else:
        other = file.tensors[change]
        assert other.bytes == tensor.bytes
        data[place] = path.read_bytes()[other.offset : other.offset + other.bytes]
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("quantization", "name", "change"),
    [
        ("f32", "blk.1.attn_q.weight", "transposed"),
        ("f32", "blk.0.attn_q.bias", "a bit"),
        ("f16", "blk.0.attn_q.weight", "a bit"),
        ("q8_0", "blk.0.attn_q.weight", "blk.0.attn_k.weight"),
        ("q8_0", "blk.0.ffn_up.weight", "a bit"),
        ("q4_0", "blk.0.attn_q.weight", "blk.0.attn_k.weight"),
        ("q4_k_m", "blk.0.ffn_down.weight", "a row further"),
        ("q6_k", "blk.0.ffn_down.weight", "blk.1.ffn_down.weight"),
        ("q6_k", "blk.0.ffn_down.weight", "infinite"),
        ("q8_0", "blk.0.ffn_down.weight", "infinite"),
    ],
)
def test_another_weight_is_found(
    lm_run: Run, lm_folder: Path, tmp_path: Path, quantization: Quantization, name: str, change: str
) -> None:
    path = tmp_path / "model.gguf"
    shutil.copy(lm_folder / gguf_file(quantization), path)
    compare(read_gguf(path), lm_run.model)
    changed(path, name, change)
    with pytest.raises(MismatchError, match=name):
        compare(read_gguf(path), lm_run.model)


def test_what_cannot_be_stored_is_refused(lm_run: Run, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = Decoder(lm_run.model.config)
    with torch.no_grad():
        model.get_parameter("layers.0.feed_forward.up.weight")[3, 3] = 70_000.0
    write_gguf(tmp_path / "model.gguf", model, tokenizer, "bf16", {})
    with pytest.raises(ToolkitError, match="finite in F16"):
        write_gguf(tmp_path / "model.gguf", model, tokenizer, "f16", {})


def test_a_failure_leaves_what_was_there(
    lm_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    config = ExportConfig(lm_run.path, out, formats=("gguf",), quantize=("f32",))
    export(config, Silent())
    before = file_table(out)

    def broken(*args: object) -> float:
        raise MismatchError("another weight")

    monkeypatch.setattr("pretrain.lm.export.folder.compare", broken)
    with pytest.raises(MismatchError, match="another weight"):
        export(config, Silent())
    assert file_table(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="--out must be a new folder"):
        export(ExportConfig(lm_run.path, tmp_path / "mine"), Silent())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"formats": ()}, "--formats must name at least one"),
        ({"formats": ("onnx",)}, "--formats must be of gguf, hf, ollama, got onnx"),
        ({"formats": ("ollama",)}, "needs gguf"),
        ({"quantize": ("q3_k",)}, "--quantize must be of f32"),
        ({"quantize": ("f32", "f32")}, "once"),
    ],
)
def test_impossible_exports_are_refused(settings: dict[str, tuple[Quantization, ...]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ExportConfig(Path("run"), Path("out"), **settings)
