"""The GPU's benchmark, in little on the CPU."""

import gpu
import pytest
import torch


def test_an_encoders_work_by_hand() -> None:
    """10 tokens, 6 layers: products 384 x 384, 4 of them, and 384 x 1536, 2; scores and sums of 10 x 10."""
    assert gpu.encoder_flops(10) == 2 * 10 * 6 * 1_769_472 + 6 * 2 * (2 * 10 * 10 * 384)


def test_without_cuda_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.main()
    assert capsys.readouterr().out.startswith("no CUDA device here: ")


def test_training_and_a_language_model_run_on_a_device() -> None:
    for part in (gpu.training("cpu", 32, 2), gpu.language_model("cpu", "demo", 1)):
        assert part["flops_per_second"] > 1e6
    assert gpu.matrix_rate("cpu", 3) > 1e8
