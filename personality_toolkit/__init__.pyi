# Every name of its packages' __all__; a test keeps it so.
from device_sim import (
    Fleet as Fleet,
)
from device_sim import (
    FleetConfig as FleetConfig,
)
from device_sim import (
    NightsConfig as NightsConfig,
)
from device_sim import (
    ParityConfig as ParityConfig,
)
from device_sim import (
    Report as Report,
)
from device_sim import (
    RunConfig as RunConfig,
)
from device_sim import (
    SimulateConfig as SimulateConfig,
)
from device_sim import (
    Simulation as Simulation,
)
from device_sim import (
    check_parity as check_parity,
)
from device_sim import (
    create_heads as create_heads,
)
from device_sim import (
    load_mil as load_mil,
)
from device_sim import (
    make_user as make_user,
)
from device_sim import (
    open_heads as open_heads,
)
from device_sim import (
    open_shipped as open_shipped,
)
from device_sim import (
    run_package as run_package,
)
from device_sim import (
    shipped_head as shipped_head,
)
from device_sim import (
    simulate_fleet as simulate_fleet,
)
from device_sim import (
    simulate_phone as simulate_phone,
)
from grpo import (
    Groups as Groups,
)
from grpo import (
    GRPOConfig as GRPOConfig,
)
from grpo import (
    Head as Head,
)
from grpo import (
    TuneResult as TuneResult,
)
from grpo import (
    top_overlap as top_overlap,
)
from grpo import (
    top_tokens as top_tokens,
)
from grpo import (
    tune_head as tune_head,
)
from personality_common import (
    Bundle as Bundle,
)
from personality_common import (
    Check as Check,
)
from personality_common import (
    ConfigError as ConfigError,
)
from personality_common import (
    DataError as DataError,
)
from personality_common import (
    Limits as Limits,
)
from personality_common import (
    MismatchError as MismatchError,
)
from personality_common import (
    Package as Package,
)
from personality_common import (
    Registry as Registry,
)
from personality_common import (
    Reporter as Reporter,
)
from personality_common import (
    ToolkitError as ToolkitError,
)
from personality_common import (
    VerifiedBundle as VerifiedBundle,
)
from personality_common import (
    Vocabulary as Vocabulary,
)
from personality_common import (
    fingerprint as fingerprint,
)
from personality_common import (
    inspect_path as inspect_path,
)
from personality_common import (
    load_vocabulary as load_vocabulary,
)
from pretrain import (
    DataConfig as DataConfig,
)
from pretrain import (
    ExportConfig as ExportConfig,
)
from pretrain import (
    ExportResult as ExportResult,
)
from pretrain import (
    PersonalityModel as PersonalityModel,
)
from pretrain import (
    Prediction as Prediction,
)
from pretrain import (
    PretrainConfig as PretrainConfig,
)
from pretrain import (
    PretrainResult as PretrainResult,
)
from pretrain import (
    Run as Run,
)
from pretrain import (
    export as export,
)
from pretrain import (
    load_run as load_run,
)
from pretrain import (
    predict as predict,
)
from pretrain import (
    pretrain as pretrain,
)
from pretrain import (
    read_texts as read_texts,
)
