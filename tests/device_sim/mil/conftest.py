"""Makes the modules beside the tests importable, and coremltools' import quiet."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import mil_quiet  # noqa: F401
