"""`pt lm eval`: a run beside its baselines, on documents that it was not trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from personality_common.errors import DataError
from personality_common.terminal.progress import Reporter
from pretrain.lm import answers, bits
from pretrain.lm.answers import Calls, Sample, Share
from pretrain.lm.bits import Bits, TagBits
from pretrain.lm.chat import Document
from pretrain.lm.config import EvalConfig
from pretrain.lm.data.folder import Data, open_data
from pretrain.lm.data.reasoning import final_answer
from pretrain.lm.run import Run, load_run

SCHEMA: Final = 1
"""Of lm-evaluation.schema.json."""
KINDS: Final = {"value": "held-out values", "phrasing": "held-out phrasings", None: "neither held out"}
"""Of examples of tools, by `held_out`."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of a run on the test documents of a folder.

    Attributes:
        bits: source -> bits per byte.
        calls: what is held out -> figures of calls that should be made.
        abstention: of prompts that no tool on offer is for.
        reasoning: of questions whose answer can be checked.
        tags: what the perspectives' tags are worth.
        samples: one of each source.
    """

    bits: Mapping[str, Bits]
    calls: Mapping[str, Calls]
    abstention: Share | None
    reasoning: Share | None
    tags: TagBits | None
    samples: Sequence[Sample]

    def to_json(self) -> dict[str, Any]:
        """After lm-evaluation.schema.json."""
        return {"schema": SCHEMA, **asdict(self)}


def evaluate(config: EvalConfig, reporter: Reporter) -> Evaluation:
    """Measure a run on what it was not trained on; answers are decoded greedily on the CPU.

    Raises:
        DataError: the run or the data are damaged, or the data are others than the run was trained with and
            were not named; they have no test documents.
    """
    run = load_run(config.run)
    data = _data(run, config.data)
    documents = list(_chosen(data, config.examples))
    if not documents:
        raise DataError(f"{data.folder}: must have test documents, has none")
    by_source: dict[str, list[Document]] = defaultdict(list)
    for document in documents:
        by_source[document.source].append(document)
    training = bits.Training(data, run.tokenizer, reporter)
    model, tokenizer = run.model, run.tokenizer
    measured: dict[str, Bits] = {}
    with reporter.stage("bits per byte", len(by_source), "sources") as stage:
        for source, some in by_source.items():
            measured[source] = bits.measure(model, tokenizer, _first(some), training)
            stage.advance(1)
    tagged = _first([document for document in documents if document.perspective])
    asked = _asked(documents, config.examples)
    with reporter.stage("decoding", sum(map(len, asked.values())), "answers") as stage:
        calls = {
            kind: found
            for kind in KINDS.values()
            if (found := answers.measure_calls(model, tokenizer, asked[kind], stage)) is not None
        }
        abstention = answers.measure_abstention(model, tokenizer, asked["none"], stage)
        reasoning = answers.measure_reasoning(model, tokenizer, asked["reasoning"], stage)
    return Evaluation(
        measured,
        calls,
        abstention,
        reasoning,
        bits.tag_bits(model, tokenizer, tagged) if tagged else None,
        [answers.sample(model, tokenizer, some[0]) for some in by_source.values()],
    )


def _data(run: Run, named: Path | None) -> Data:
    content = run.record.content
    try:
        source, fingerprint = Path(content["config"]["data"]), content["data"]["fingerprint"]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{run.path}: its record does not say what it was trained on: {error!r:.100}"
        ) from None
    data = open_data(source if named is None else named)
    if named is None and data.fingerprint != fingerprint:
        raise DataError(
            f"{source}: holds other documents than the run was trained with; name some with --data"
        )
    return data


def _chosen(data: Data, examples: int) -> Sequence[Document]:
    """Of each source and kind of test document, no more than are measured."""
    taken: dict[tuple[str, str | None, bool], int] = defaultdict(int)
    sizes: dict[str, int] = defaultdict(int)
    chosen = []
    for document in data.documents("test"):
        key = (document.source, document.held_out, any(turn.role == "none" for turn in document.turns))
        taken[key] += 1
        sizes[document.source] += bits.bytes_of(document)
        if taken[key] <= examples or sizes[document.source] <= bits.MOST_BYTES:
            chosen.append(document)
    return chosen


def _first(documents: Sequence[Document]) -> list[Document]:
    """Those that measuring bits is enough with."""
    chosen, size = [], 0
    for document in documents:
        chosen.append(document)
        size += bits.bytes_of(document)
        if size > bits.MOST_BYTES:
            break
    return chosen


def _asked(documents: Sequence[Document], examples: int) -> dict[str, list[Document]]:
    """Of each kind of prompt, those whose answers are decoded."""
    found: dict[str, list[Document]] = {kind: [] for kind in (*KINDS.values(), "none", "reasoning")}
    for document in documents:
        turn = answers.asked_turn(document)
        if turn is not None and document.turns[turn].role == "none":
            found["none"].append(document)
        elif turn is not None:
            found[KINDS[document.held_out]].append(document)
        elif document.turns[-1].role == "assistant" and final_answer(document.turns[-1].text) is not None:
            found["reasoning"].append(document)
    return {kind: some[:examples] for kind, some in found.items()}
