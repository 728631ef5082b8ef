"""The demo's language model is trained alike by `make demo`, a reader of the README and the benchmark."""

from pathlib import Path

import bench_lm
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["Makefile", "README.md"])
def test_the_benchmark_measures_what_the_demo_trains(page: str) -> None:
    text = " ".join((ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ").split())
    settings = f"--prepare --tokens {bench_lm.TOKENS:g} --batch-size {bench_lm.BATCH} --lr {bench_lm.RATE:g}"
    (train,) = (part for part in text.split("pt lm train ")[1:] if "--prepare" in part[:200])
    assert settings + " " in train + " "
    (tokenizer,) = (part for part in text.split("pt lm tokenizer ")[1:])
    assert "--spaces" in tokenizer.split()[:5]
