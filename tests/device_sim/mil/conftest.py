"""Makes coremltools' import quiet."""

import mil_quiet  # noqa: F401
