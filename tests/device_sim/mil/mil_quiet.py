"""Imports coremltools without what it says about versions it was not tested with."""

import logging
import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import coremltools
    import coremltools.converters.mil
    import coremltools.optimize.coreml  # noqa: F401

    logging.disable(logging.NOTSET)
logging.getLogger("coremltools").setLevel(logging.ERROR)
