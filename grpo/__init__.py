"""Group relative policy optimization of a linear head: tensors only, no Core ML."""

from lazy_loader import attach_stub

# The public names are in __init__.pyi; each is imported when it is first used.
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
