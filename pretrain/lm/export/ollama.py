"""The Modelfile: `ollama create NAME -f Modelfile` in the exported folder makes a model of it."""

from __future__ import annotations

from pretrain.lm.chat import END
from pretrain.lm.chat_template import GO_TEMPLATE
from pretrain.lm.config import ModelConfig


def modelfile(gguf: str, config: ModelConfig) -> str:
    """Content of a Modelfile.

    Args:
        gguf: name of the file beside it.
    """
    return (
        f"FROM ./{gguf}\n"
        f'TEMPLATE """{GO_TEMPLATE}"""\n'
        f'PARAMETER stop "{END}"\n'
        f"PARAMETER num_ctx {config.context_length}\n"
        "PARAMETER temperature 0\n"
        "PARAMETER repeat_penalty 1.0\n"
    )
