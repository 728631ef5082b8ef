"""Open Core ML models as untrusted input: `.mlpackage` folders and `.mlmodel` files.

Nothing outside the package is opened, whatever its manifest says, and no link is followed; sizes are
checked before reading, and what the protobuf would become before it is parsed; the parser refuses more
than 100 levels of nesting.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError

from personality_common.coreml.limits import DEFAULT_LIMITS, Limits
from personality_common.coreml.proto import Model_pb2
from personality_common.coreml.weights import WeightFile
from personality_common.coreml.wire import count_objects
from personality_common.errors import DataError
from personality_common.files.atomic import read_json_object
from personality_common.files.bounded import read_bounded
from personality_common.files.inside import inside, refuse_links
from personality_common.files.typed import from_json

MANIFEST: Final = "Manifest.json"
MODEL_PATH: Final = "@model_path/"
PIPELINES: Final = ("pipeline", "pipelineClassifier", "pipelineRegressor")
MAX_NAME: Final = 1_000
"""Characters of a name that other names are made from; what is longer is cut."""
_TRUSTED: Final = "; raise --max-model-mib for a file that you trust"


@dataclass(frozen=True, eq=False)
class Package:
    """A model, or a submodel of a pipeline, with access to its weight files."""

    path: Path
    """As it was given."""
    spec: Any
    """Model_pb2.Model, parsed once; submodels are views of it."""
    name: str
    """`""`, or a submodel's path in the pipeline: `backbone`, `1/head`."""
    model_file: Path
    """The file that holds the protobuf."""
    limits: Limits = DEFAULT_LIMITS
    _weights: dict[str, WeightFile] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> Package:
        """Open a `.mlpackage` or a `.mlmodel`.

        Raises:
            DataError: it is none, a part of it is missing, malformed, outside of the package,
                or larger than the limits.
        """
        path = Path(path)
        refuse_links(path, limits.package_files)
        model_file = _root_model(path, limits) if path.is_dir() else path
        data = read_bounded(model_file, limits.model_bytes, "a model's protobuf", _TRUSTED)
        # Of fewer bytes than two for each, there are not as many.
        if len(data) > 2 * limits.objects:
            objects = count_objects(data, Model_pb2.Model.DESCRIPTOR, limits.objects)
            if objects > limits.objects:
                raise DataError(
                    f"{model_file}: a model's protobuf may have {limits.objects:,} messages and strings, "
                    f"this has more{_TRUSTED}"
                )
        spec = Model_pb2.Model()
        try:
            spec.ParseFromString(data)
        except DecodeError as error:
            raise DataError(f"{model_file}: not a Core ML model: {error}") from error
        if spec.specificationVersion < 1:
            raise DataError(f"{model_file}: not a Core ML model: it states no specification version")
        if sum(1 for _ in islice(_models(spec), limits.models + 1)) > limits.models:
            raise DataError(f"{model_file}: a pipeline may have {limits.models:,} models, this has more")
        return cls(path, spec, "", model_file, limits)

    @property
    def kind(self) -> str:
        """`mlProgram`, `neuralNetwork`, `pipeline`, `treeEnsembleClassifier`, …; `unknown` if newer."""
        return self.spec.WhichOneof("Type") or "unknown"

    @cached_property
    def submodels(self) -> tuple[Package, ...]:
        """The models of a pipeline in order; empty for any other kind."""
        pipeline = _pipeline(self.spec)
        if pipeline is None:
            return ()
        prefix = f"{self.name}/" if self.name else ""
        names = [name[:MAX_NAME] for name in pipeline.names[: len(pipeline.models)]]
        names += [""] * (len(pipeline.models) - len(names))
        return tuple(
            replace(self, spec=spec, name=prefix + (name or str(i)))
            for i, (spec, name) in enumerate(zip(pipeline.models, names, strict=True))
        )

    def weights(self, file_name: str) -> WeightFile:
        """The weight file that a program names, such as `@model_path/weights/weight.bin`.

        `@model_path` is the folder of the protobuf, for the submodels of a pipeline too.
        Opened once, and shared with submodels.
        """
        if file_name not in self._weights:
            if not file_name.startswith(MODEL_PATH):
                raise DataError(
                    f"{self.path}: a weight file's name begins with {MODEL_PATH}, got {file_name!r}"
                )
            path = inside(self.model_file.parent, file_name.removeprefix(MODEL_PATH))
            # Opened once, whatever names the program has for it.
            known = self._weights.get(str(path)) or WeightFile.open(path, self.limits)
            self._weights[file_name] = self._weights[str(path)] = known
        return self._weights[file_name]


def _pipeline(spec: Any) -> Any | None:
    """The `Pipeline` message of a model; None for other kinds."""
    kind = spec.WhichOneof("Type")
    if kind not in PIPELINES:
        return None
    return spec.pipeline if kind == "pipeline" else getattr(spec, kind).pipeline


def _models(spec: Any) -> Iterator[Any]:
    """A model, and those in it."""
    yield spec
    pipeline = _pipeline(spec)
    if pipeline is not None:
        for model in pipeline.models:
            yield from _models(model)


@dataclass(frozen=True)
class _Item:
    path: str


@dataclass(frozen=True)
class _Manifest:
    """What Core ML's own `Manifest.json` must have."""

    itemInfoEntries: dict[str, _Item]
    rootModelIdentifier: str


def _root_model(package: Path, limits: Limits) -> Path:
    """The protobuf that the manifest of a package names."""
    if not os.path.lexists(package / MANIFEST):
        compiled = (package / "coremldata.bin").exists()
        hint = "a compiled model; give the .mlpackage it was made from" if compiled else "not a package"
        raise DataError(f"{package}: a Core ML package has a {MANIFEST}, this has none: {hint}")
    file = inside(package, MANIFEST)
    manifest = from_json(_Manifest, read_json_object(file, limits.manifest_bytes), str(file))
    if (item := manifest.itemInfoEntries.get(manifest.rootModelIdentifier)) is None:
        raise DataError(
            f"{file}: itemInfoEntries must have the root model {manifest.rootModelIdentifier[:80]!r}"
        )
    return inside(inside(package, "Data"), item.path)
