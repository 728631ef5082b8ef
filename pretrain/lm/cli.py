"""`pt lm`."""

from __future__ import annotations

import click


@click.group()
def lm() -> None:
    """Train a small language model that llama.cpp, transformers and Ollama run."""
