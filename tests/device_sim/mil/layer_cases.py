"""All cases of layers."""

from layer_cases_math import CASES as MATH
from layer_cases_shape import CASES as SHAPES

LAYER_CASES = [*MATH, *SHAPES]
