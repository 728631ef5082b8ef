"""The PyTorch model that a bundle was made from, as a runtime: the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from device_sim.mil.features import check_inputs, read_arrays
from device_sim.runtimes.runtime import Array
from personality_common.contract import (
    ATTENTION_MASK,
    EMBEDDING,
    ENCODER_PACKAGE,
    HEAD_PACKAGE,
    HEAD_PARAMETERS,
    INPUT_IDS,
    LATENT,
    LOGITS,
    SENTENCE_EMBEDDING,
)
from personality_common.coreml.package import Package
from personality_common.errors import ToolkitError
from personality_common.terminal.progress import SILENT
from personality_common.text.sentence import SentenceEncoder
from pretrain.personality.model import PersonalityModel, computed_parameters
from pretrain.personality.rules.family import STATE_PARAMETERS
from pretrain.personality.run import Run, load_run_encoder

Values = Mapping[str, Array]
"""Parameters of a personality model by PyTorch's name."""


class MirrorModel:
    """See `LoadedModel`; float32 on the CPU."""

    def __init__(self, package: Path, values: Values) -> None:
        """Args: values: all that the package's outputs depend on."""
        description = Package.open(package).spec.description
        self.inputs = read_arrays(description.input)
        self.outputs = read_arrays(description.output)
        self.module = PersonalityModel().eval().requires_grad_(False)
        takes = {feature.name for feature in self.inputs}
        needed = set(computed_parameters() if EMBEDDING in takes else HEAD_PARAMETERS)
        if missing := sorted(needed - set(values)):
            raise ToolkitError(f"{package}: the PyTorch mirror needs {missing[0]}, which is not known")
        for name in needed:
            value = torch.from_numpy(np.array(values[name], np.float32))
            self.module.get_parameter(name).copy_(value)

    @torch.inference_mode()
    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        checked = check_inputs(self.inputs, inputs)
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in checked.items()}
        latent = tensors[LATENT] if LATENT in tensors else self.module.backbone(tensors[EMBEDDING])
        found = {LATENT: latent, LOGITS: self.module.head(latent)}
        return {feature.name: found[feature.name].numpy() for feature in self.outputs}

    def layers(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """What each layer with parameters computes on the way, by the module's name."""
        seen: dict[str, Array] = {}

        def keep(name: str) -> Callable[[Any, Any, torch.Tensor], None]:
            def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
                seen[name] = output.numpy()

            return hook

        leaves = [(n, m) for n, m in self.module.named_modules() if n and list(m.parameters(recurse=False))]
        handles = [module.register_forward_hook(keep(name)) for name, module in leaves]
        try:
            outputs = self.predict(inputs)
        finally:
            for handle in handles:
                handle.remove()
        return seen | ({"projection": outputs[LOGITS]} if LOGITS in outputs else {})


class MirrorEncoder:
    """The run's sentence-transformers model, and its projector behind it."""

    def __init__(self, package: Path, run: Run, encoder: SentenceEncoder) -> None:
        description = Package.open(package).spec.description
        self.inputs = read_arrays(description.input)
        self.outputs = read_arrays(description.output)
        self._run, self._encoder = run, encoder

    @torch.inference_mode()
    def predict(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        checked = check_inputs(self.inputs, inputs)
        base = self._encoder.encode_tokens(checked[INPUT_IDS], checked[ATTENTION_MASK])
        found = {SENTENCE_EMBEDDING: base}
        if self._run.projector is not None:
            found[EMBEDDING] = self._run.projector(torch.from_numpy(base)).numpy()
        return {feature.name: found[feature.name] for feature in self.outputs}


class TorchRuntime:
    """Mirrors the packages of one bundle.

    With a run, the weights are the run's, whatever the packages hold. Without one, they are those
    that each package holds: the comparison then proves the program, and the weights are proven
    by their fingerprints and by the golden vectors alone.
    """

    name = "torch"

    def __init__(self, run: Run | None, stored: Callable[[str], Values]) -> None:
        """Make a mirror.

        Args:
            run: the bundle's.
            stored: file name of a package -> the parameters that it holds.
        """
        self.run = run
        self._stored = stored

    def unavailable(self) -> str | None:
        return None

    def load(self, package: Path, states: Mapping[str, Array] | None = None) -> MirrorModel | MirrorEncoder:
        """Mirror a package; states are values of the head, as on any runtime."""
        if package.name == ENCODER_PACKAGE:
            if self.run is None:
                raise ToolkitError(f"{package.name}: its PyTorch mirror needs the run (--run)")
            return MirrorEncoder(package, self.run, self.encoder)
        values = self._values(package.name)
        if package.name != HEAD_PACKAGE:
            values |= {STATE_PARAMETERS[name]: value for name, value in (states or {}).items()}
        return MirrorModel(package, values)

    @cached_property
    def encoder(self) -> SentenceEncoder:
        """The run's, in float32."""
        assert self.run is not None
        if not self.run.encoder.weights_sha256:
            raise ToolkitError(f"the run's encoder {self.run.encoder.name} is hosted; it has no mirror")
        encoder = load_run_encoder(self.run, "cpu", torch.float32, SILENT)
        assert isinstance(encoder, SentenceEncoder)
        return encoder

    def _values(self, package: str) -> dict[str, Array]:
        if self.run is None:
            return dict(self._stored(package))
        return {name: p.detach().numpy() for name, p in self.run.model.named_parameters()}
