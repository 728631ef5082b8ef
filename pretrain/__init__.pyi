from .data.conversations import DataConfig, read_texts
from .personality.config import PretrainConfig
from .personality.export.bundle import ExportResult, export
from .personality.export.config import ExportConfig
from .personality.model import PersonalityModel
from .personality.pipeline import PretrainResult, pretrain
from .personality.prediction import Prediction, predict
from .personality.run import Run, load_run

__all__ = [
    "DataConfig",
    "ExportConfig",
    "ExportResult",
    "PersonalityModel",
    "Prediction",
    "PretrainConfig",
    "PretrainResult",
    "Run",
    "export",
    "load_run",
    "predict",
    "pretrain",
    "read_texts",
]
