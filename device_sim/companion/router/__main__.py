"""Fit the router that ships, after a change of seed or flags: `python -m device_sim.companion.router`."""

from __future__ import annotations

import torch

from personality_common.files.atomic import write_json
from personality_common.text.encoder import load_encoder

from .fitting import fit
from .records import read_seed
from .router import STORED


def main() -> None:
    encoder = load_encoder("minilm", "cpu", torch.float32)
    records = read_seed()
    write_json(
        STORED, fit(records, encoder.encode([one.text for one in records]), encoder.identity).as_json()
    )


if __name__ == "__main__":
    main()
