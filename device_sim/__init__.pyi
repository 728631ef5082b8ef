from .fleet.config import FleetConfig
from .fleet.fleet import Fleet, simulate_fleet
from .heads.heads import create_heads, open_heads
from .heads.shipped import open_shipped, shipped_head
from .mil.loading import load_mil
from .parity.compare import check_parity
from .parity.config import ParityConfig
from .parity.report import Report
from .runtimes.config import RunConfig
from .runtimes.running import run_package
from .simulate.config import SimulateConfig
from .simulate.simulation import Simulation, simulate_phone
from .users.nights import NightsConfig
from .users.users import make_user

__all__ = [
    "Fleet",
    "FleetConfig",
    "NightsConfig",
    "ParityConfig",
    "Report",
    "RunConfig",
    "SimulateConfig",
    "Simulation",
    "check_parity",
    "create_heads",
    "load_mil",
    "make_user",
    "open_heads",
    "open_shipped",
    "run_package",
    "shipped_head",
    "simulate_fleet",
    "simulate_phone",
]
