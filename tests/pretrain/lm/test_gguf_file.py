"""A GGUF file from outside: what is damaged or bent is refused in a line, without time or memory spent."""

import random
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from personality_common.errors import DataError, ToolkitError
from pretrain.lm.bundle.gguf_file import GgufFile, read_gguf
from pretrain.lm.bundle.gguf_model import read_model
from pretrain.lm.bundle.gguf_types import TYPES
from pretrain.lm.llama import Llama


def written(path: Path, **changes: Any) -> bytes:
    """A small file by the package gguf."""
    writer = gguf.GGUFWriter(path, "starcoder2")
    writer.add_string("text", "naïve")
    writer.add_array("list", ["a", "b"])
    writer.add_float32("float", 0.5)
    writer.add_bool("flag", True)
    writer.add_int64("long", -(2**40))
    writer.add_tensor("first", np.arange(12, dtype=np.float32).reshape(3, 4))
    writer.add_tensor("second", np.arange(8, dtype=np.float16).reshape(2, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    written(tmp_path / "small.gguf")
    return tmp_path / "small.gguf"


def test_what_the_package_writes_is_read(path: Path) -> None:
    file = read_gguf(path)
    assert file.metadata == {
        "general.architecture": "starcoder2",
        "text": "naïve",
        "list": ["a", "b"],
        "float": 0.5,
        "flag": True,
        "long": -(2**40),
    }
    assert list(file.tensors) == ["first", "second"]
    np.testing.assert_array_equal(file.values("first"), np.arange(12).reshape(3, 4))
    np.testing.assert_array_equal(file.values("second"), np.arange(8).reshape(2, 4))
    assert file.values("second").dtype == np.float32


def test_block_sizes_are_ggmls() -> None:
    for name, kind in TYPES.items():
        number = gguf.GGMLQuantizationType[name]
        assert (kind.number, kind.block, kind.bytes) == (number.value, *gguf.GGML_QUANT_SIZES[number])


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        (b"GGUF\x03", b"GGUF\x02", "version 3"),
        (b"GGUF\x03", b"PK\x03\x04\x03", "version 3"),
        (struct.pack("<QQ", 2, 6), struct.pack("<QQ", 1 << 60, 6), "a count in it must be"),
        (struct.pack("<QQ", 2, 6), struct.pack("<QQ", 3, 6), "must"),
        (struct.pack("<Q4s", 4, b"text"), struct.pack("<Q4s", 1 << 62, b"text"), "a count in it must be"),
        (struct.pack("<4sI", b"text", 8), struct.pack("<4sI", b"text", 77), "is of type 77"),
        (struct.pack("<4sI", b"text", 8), struct.pack("<4sI", b"list", 8), "twice"),
        (b"na\xc3\xafve", b"na\xc3\xc3\xafe", "UTF-8"),
        (struct.pack("<5sI", b"first", 2), struct.pack("<5sI", b"first", 9), "1 to 4 dimensions"),
        (struct.pack("<5sIQ", b"first", 2, 4), struct.pack("<5sIQ", b"first", 2, 1 << 50), "a count in it"),
        (struct.pack("<5sIQ", b"first", 2, 4), struct.pack("<5sIQ", b"first", 2, 1 << 39), "inside the file"),
        (struct.pack("<5sIQ", b"first", 2, 4), struct.pack("<5sIQ", b"first", 2, 0), "in whole blocks"),
        (struct.pack("<QQIQ", 4, 3, 0, 0), struct.pack("<QQIQ", 4, 3, 3, 0), "of a type that we read"),
        (struct.pack("<QQIQ", 4, 3, 0, 0), struct.pack("<QQIQ", 4, 3, 8, 0), "in whole blocks"),
        (struct.pack("<QQIQ", 4, 2, 1, 64), struct.pack("<QQIQ", 4, 2, 1, 32), "apart from the others"),
        (struct.pack("<QQIQ", 4, 2, 1, 64), struct.pack("<QQIQ", 4, 2, 1, 1 << 63), "inside the file"),
        (struct.pack("<6s", b"second"), struct.pack("<6s", b"first\0"), None),
    ],
)
def test_bent_files_are_refused(path: Path, find: bytes, put: bytes, message: str | None) -> None:
    data = path.read_bytes()
    assert data.count(find) == 1
    path.write_bytes(data.replace(find, put))
    if message is None:
        assert list(read_gguf(path).tensors) == ["first", "first\0"]
        return
    with pytest.raises(DataError, match=message):
        read_gguf(path)


def test_any_damage_is_an_error_or_nothing(path: Path) -> None:
    """Cut anywhere, or with random bytes anywhere: DataError, or a file whose tensors can all be read."""
    data, draw = path.read_bytes(), random.Random(0)
    ends = [*range(0, len(data), 7), len(data) - 1]
    bent = [data[:end] for end in ends]
    for _ in range(300):
        changed = bytearray(data)
        for place in draw.choices(range(len(data)), k=2):
            changed[place] = draw.randrange(256)
        bent.append(bytes(changed))
    refused = 0
    for content in bent:
        path.write_bytes(content)
        try:
            file: GgufFile = read_gguf(path)
        except DataError:
            refused += 1
            continue
        for name in file.tensors:
            file.values(name)
    assert refused > len(ends) / 2


def test_llama_cpp_is_given_no_other_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link.gguf").symlink_to(tmp_path / "none")
    for other in (tmp_path, tmp_path / "none.gguf", tmp_path / "link.gguf"):
        with pytest.raises(DataError):
            Llama(other)
    with pytest.raises(DataError, match="vocab_size must be a whole number, is None"):
        Llama(path)


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        (b"gpt-2", b"gpt-3", "pre must be 'gpt-2' or 'smollm', is 'gpt-3'"),
        (b"tokenizer.ggml.pre", b"tokenizer.ggml.prf", "pre must be 'gpt-2' or 'smollm'"),
        (b"<|user|>", b"<|usar|>", "special tokens must be"),
        (
            b"attention.head_count_kv\x04\0\0\0\x02",
            b"attention.head_count_kv\x04\0\0\0\0",
            "kv must be 2",
        ),
        (
            b"attention.head_count\x04\0\0\0\x02",
            b"attention.head_count\x04\0\0\0\0",
            "heads must be 1 or more",
        ),
        (b"block_count\x04\0\0\0\x02", b"block_count\x04\0\0\0\xff", "must have 4083 tensors, has 35"),
        (b"blk.1.attn_q.bias", b"blk.1.attn_r.bias", "blk.1.attn_q.bias must have the shape"),
        (
            b"context_length\x04\0\0\0\x80",
            b"context_length\x06\0\0\0\x80",
            "must be a whole number",
        ),
        (b"starcoder2\x0c", b"starcoder3\x0c", "of the architecture starcoder2"),
    ],
)
def test_what_llama_cpp_would_take_for_another_model_is_refused(
    lm_folder: Path, tmp_path: Path, find: bytes, put: bytes, message: str
) -> None:
    data = (lm_folder / "model-q8_0.gguf").read_bytes()
    assert read_model(lm_folder / "model-q8_0.gguf")[1].heads == 2
    at = data.index(find)
    (tmp_path / "bent.gguf").write_bytes(data[:at] + put + data[at + len(find) :])
    with pytest.raises(ToolkitError, match=message):
        read_model(tmp_path / "bent.gguf")


def test_a_grammar_is_followed_and_a_wrong_one_refused(lm_folder: Path) -> None:
    llama = Llama(lm_folder / "model-q8_0.gguf")
    prompt = llama.tokenize("<|user|>Hi<|end|><|assistant|>", special=True)
    found = llama.generate(prompt, 30, grammar='root ::= "{" [0-9] [a-c] "}"')
    assert found.ended
    tokens = read_gguf(lm_folder / "model-q8_0.gguf").metadata["tokenizer.ggml.tokens"]
    said = "".join(tokens[i] for i in found.ids)
    assert len(said) == 4
    assert (said[0], said[1].isdigit(), said[2] in "abc", said[3]) == ("{", True, True, "}")
    assert llama.generate(prompt, 2, grammar='root ::= "{" [0-9] [a-c] "}"').ended is False
    with pytest.raises(ToolkitError, match="grammar"):
        llama.generate(prompt, 5, grammar="root := ")
    with pytest.raises(ToolkitError, match="context"):
        llama.generate(prompt * 100, 5)
    assert llama.generate(prompt, 8, temperature=1.0, seed=1) == llama.generate(
        prompt, 8, temperature=1.0, seed=1
    )
