"""All conformance cases."""

import mil_cases_elementwise

CASES = [*mil_cases_elementwise.CASES]
