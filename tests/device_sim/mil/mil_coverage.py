"""The table of ops: `python tests/device_sim/mil/mil_coverage.py > device_sim/mil/COVERAGE.md`."""

import sys

import mil_quiet  # noqa: F401
from mil_cases import CASES

from device_sim.mil.coverage import markdown

if __name__ == "__main__":
    sys.stdout.write(markdown(CASES))
