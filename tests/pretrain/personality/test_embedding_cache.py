"""Shards that are whole or absent, found by text, never used when damaged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pretrain.personality.embedding_cache as module
from personality_common.errors import DataError
from personality_common.terminal.progress import SILENT, Silent
from pretrain.data.keys import text_keys
from pretrain.personality.embedding_cache import EmbeddingCache


class Warnings(Silent):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD_TEXTS", 4)


TEXTS = [f"text {i}" for i in range(10)]


def shards(folder: Path) -> list[Path]:
    return sorted(folder.rglob("shard-*.npy"))


def check(cache: EmbeddingCache, encoder: Any, texts: list[str]) -> None:
    found = cache.embeddings(cache.rows(text_keys(texts)))
    assert found.shape == (len(texts), 384)
    assert found.dtype == np.float32
    assert np.array_equal(found, np.stack([encoder.vector(text) for text in texts]))


def test_embeds_once_and_only_what_is_new(tmp_path: Path, hash_encoder: Any) -> None:
    encoder = hash_encoder()
    cache = EmbeddingCache(tmp_path, encoder, SILENT)
    assert cache.add(TEXTS) == 10
    assert [len(call) for call in encoder.calls] == [4, 4, 2]
    check(cache, encoder, TEXTS[::-1] + TEXTS[:3])

    again = EmbeddingCache(tmp_path, hash_encoder(), SILENT)
    assert again.add(TEXTS) == 0
    assert again.add(["new", *TEXTS, "new"]) == 1
    assert again.encoder.calls == [["new"]]  # type: ignore[attr-defined]
    check(again, encoder, ["new", *TEXTS])


def test_encoders_do_not_share(tmp_path: Path, hash_encoder: Any) -> None:
    EmbeddingCache(tmp_path, hash_encoder("one"), SILENT).add(TEXTS)
    assert EmbeddingCache(tmp_path, hash_encoder("two"), SILENT).add(TEXTS) == 10
    other_precision = hash_encoder("one")
    other_precision.compute_dtype = "bfloat16"
    assert EmbeddingCache(tmp_path, other_precision, SILENT).add(TEXTS) == 10


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "rename"])
def test_damaged_shard_is_named_and_rebuilt(tmp_path: Path, hash_encoder: Any, damage: str) -> None:
    EmbeddingCache(tmp_path, hash_encoder(), SILENT).add(TEXTS)
    victim = shards(tmp_path)[1]
    content = bytearray(victim.read_bytes())
    if damage == "flip":
        content[-100] ^= 1
    elif damage == "truncate":
        content = content[:-100]
    elif damage == "empty":
        content = bytearray()
    victim.write_bytes(content)
    if damage == "rename":
        victim.rename(victim.with_name("shard-" + "0" * 64 + ".npy"))
    before = {path.name for path in shards(tmp_path)}

    reporter, encoder = Warnings(), hash_encoder()
    cache = EmbeddingCache(tmp_path, encoder, reporter)
    assert len(reporter.warnings) == 1
    assert "shard-" in reporter.warnings[0]
    rebuilt = cache.add(TEXTS)
    assert rebuilt in (2, 4)
    check(cache, encoder, TEXTS)
    # The texts of a shard are embedded together again, so the file comes back bit for bit.
    assert {path.name for path in shards(tmp_path)} >= before - {victim.name, "shard-" + "0" * 64 + ".npy"}
    assert len(shards(tmp_path)) == 3


def test_failure_keeps_finished_shards(tmp_path: Path, hash_encoder: Any) -> None:
    class Failing(hash_encoder):  # type: ignore[misc]
        def encode(self, texts: Any) -> Any:
            if len(self.calls) == 2:
                raise OSError("no space left on device")
            return super().encode(texts)

    with pytest.raises(OSError, match="no space"):
        EmbeddingCache(tmp_path, Failing(), SILENT).add(TEXTS)
    assert len(shards(tmp_path)) == 2
    encoder = hash_encoder()
    assert EmbeddingCache(tmp_path, encoder, SILENT).add(TEXTS) == 2
    assert encoder.calls == [TEXTS[8:]]


def test_half_written_shard_is_swept_away(tmp_path: Path, hash_encoder: Any) -> None:
    cache = EmbeddingCache(tmp_path, hash_encoder(), SILENT)
    cache.add(TEXTS)
    (cache.folder / ".shard-abc.npy.x.tmp").write_bytes(b"half")
    EmbeddingCache(tmp_path, hash_encoder(), SILENT)
    assert not list(cache.folder.glob(".*"))


def test_other_vocabulary_embeds_its_words_only(tmp_path: Path, hash_encoder: Any) -> None:
    encoder = hash_encoder()
    EmbeddingCache(tmp_path, encoder, SILENT).add([*TEXTS, "shy", "bold"])
    cache = EmbeddingCache(tmp_path, encoder, SILENT)
    assert cache.add(["shy", "loud"]) == 1
    assert cache.add(TEXTS) == 0


def test_few_files_are_open_at_a_time(
    tmp_path: Path, hash_encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_OPEN", 2)
    encoder = hash_encoder()
    texts = [f"text {i}" for i in range(40)]
    cache = EmbeddingCache(tmp_path, encoder, SILENT)
    cache.add(texts)

    def opened() -> int:
        links = [path.readlink().name for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return sum(name.startswith("shard-") for name in links)

    for step in (1, 3, 7):
        check(cache, encoder, [texts[i * step % 40] for i in range(40)])
        assert not Path("/proc/self/fd").exists() or opened() == 2
    del cache
    assert not Path("/proc/self/fd").exists() or opened() == 0


def test_shard_that_is_cut_while_in_use_is_named(tmp_path: Path, hash_encoder: Any) -> None:
    cache = EmbeddingCache(tmp_path, hash_encoder(), SILENT)
    cache.add(TEXTS)
    for victim in shards(tmp_path):
        with victim.open("r+b") as file:
            file.truncate(200)
    with pytest.raises(DataError, match=r"shard-.*\.npy: has become shorter"):
        cache.embeddings(np.arange(10))


def test_a_fingerprint_tells_caches_apart_that_may_give_other_bits(tmp_path: Path, hash_encoder: Any) -> None:
    """Texts that were embedded together may lie in one cache, and apart in another."""
    together, apart, again = (EmbeddingCache(tmp_path / n, hash_encoder(), SILENT) for n in "abc")
    together.add(["a", "b"])
    apart.add(["a"])
    apart.add(["b"])
    again.add(["a", "b"])
    assert together.fingerprint == again.fingerprint != apart.fingerprint
