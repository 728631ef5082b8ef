"""Errors that a user can act on."""


class ToolkitError(Exception):
    """Something the user can mend: a bad file, a mismatch, a missing package.

    The message is one line: the invariant, what arrived (file, line, key, shape), and what
    to do. `pt` prints it to stderr and exits with 1; anything else is a defect of ours.
    """


class ConfigError(ToolkitError):
    """An option's value is out of range; `pt` exits with 2, as for any wrong usage."""


class DataError(ToolkitError):
    """A file that came in is malformed, truncated, or breaks a limit."""


class MismatchError(ToolkitError):
    """Two artifacts that do not belong together: vocabulary, encoder, bundle, run."""
