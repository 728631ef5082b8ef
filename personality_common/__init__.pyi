from .bundle.bundle import Bundle, VerifiedBundle
from .coreml.limits import Limits
from .coreml.package import Package
from .errors import ConfigError, DataError, MismatchError, ToolkitError
from .evidence.claims import Check
from .files.fingerprint import fingerprint
from .inspection.reading import inspect_path
from .registry.registry import Registry
from .terminal.progress import Reporter
from .vocabulary import Vocabulary, load_vocabulary

__all__ = [
    "Bundle",
    "Check",
    "ConfigError",
    "DataError",
    "Limits",
    "MismatchError",
    "Package",
    "Registry",
    "Reporter",
    "ToolkitError",
    "VerifiedBundle",
    "Vocabulary",
    "fingerprint",
    "inspect_path",
    "load_vocabulary",
]
