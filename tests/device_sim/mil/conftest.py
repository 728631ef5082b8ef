"""Makes the conformance tables importable, and coremltools' import quiet."""

import logging
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # untested versions of torch and scikit-learn, by its own account
    logging.disable(logging.WARNING)
    import coremltools  # noqa: F401
    import coremltools.converters.mil
    import coremltools.optimize.coreml  # noqa: F401

    logging.disable(logging.NOTSET)
logging.getLogger("coremltools").setLevel(logging.ERROR)
