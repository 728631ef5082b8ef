"""All conformance cases."""

import mil_cases_elementwise
import mil_cases_image
import mil_cases_index
import mil_cases_math
import mil_cases_shape

CASES = [
    *mil_cases_elementwise.CASES,
    *mil_cases_math.CASES,
    *mil_cases_image.CASES,
    *mil_cases_shape.CASES,
    *mil_cases_index.CASES,
]
