from .config import GRPOConfig
from .groups import Groups
from .head import Head, top_overlap, top_tokens
from .tune import TuneResult, tune_head

__all__ = [
    "GRPOConfig",
    "Groups",
    "Head",
    "TuneResult",
    "top_overlap",
    "top_tokens",
    "tune_head",
]
