"""Every command's tables at 60, 80, 120 and 200 columns: nothing that is a number, an id or a date is cut."""

import io
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

import pytest
from lived_week import lived_week
from rich.console import Group, RenderableType
from rich.text import Text

from device_sim.adapters import rendering as adapters
from device_sim.adapters.difference import AdapterDifference, PartChange
from device_sim.capability import report as capability
from device_sim.capability.running import Scored
from device_sim.capability.suite import default_suite
from device_sim.companion.memory import rendering as memory
from device_sim.doctor import rendering as doctor
from device_sim.doctor.examination import Examination, Part
from device_sim.doctor.parts import Package
from device_sim.doctor.probing import Found
from device_sim.fleet import rendering as fleet
from device_sim.heads import rendering as heads
from device_sim.night import rendering as night
from device_sim.night.state import SetFigures
from device_sim.parity import terminal as parity
from device_sim.simulate import rendering as simulate
from device_sim.trace import rendering as trace
from device_sim.trace.config import TraceConfig
from device_sim.trace.records import Error, Note, OpTrace, Overflow
from device_sim.week import rendering as week
from device_sim.week.figures import day_figures
from personality_common.evidence.claims import Check, within
from personality_common.inspection import cost_rendering, diff_rendering, layout
from personality_common.inspection import rendering as inspection
from personality_common.inspection.cost import Cost, OpCost
from personality_common.registry import rendering as registry
from personality_common.terminal import checks
from personality_common.terminal.console import TerminalConsole
from personality_common.terminal.tables import Column, Grid, facts, figures, wrapped
from pretrain.character import rendering as character
from pretrain.lm import rendering as lm
from pretrain.lm.training import GROUPS
from pretrain.personality import rendering as personality
from pretrain.personality.export import rendering as export

ROOT = Path(__file__).parents[1]
WIDTHS = (60, 80, 120, 200)
DIGEST = "9bf39003a03f" + "0123456789abcdef" * 3 + "0123"
WHEN = "2026-11-29T13:45:01+00:00"
USER = "profile:strength=0.5,temperature=1.25,topics=3"


def drawn(shown: RenderableType, width: int) -> str:
    console = TerminalConsole(width=width)
    console.file = io.StringIO()
    console.print(shown)
    return console.file.getvalue()


def grids(found: Any) -> Iterable[Grid]:
    """In whatever a rendering function gives."""
    if isinstance(found, Grid):
        yield found
    elif isinstance(found, Group):
        yield from grids(found.renderables)
    elif not isinstance(found, str | Text):
        for one in found:
            yield from grids(one)


def printed_grids(show: Any) -> list[Grid]:
    """By what prints to a console."""
    found: list[Grid] = []

    class Kept(TerminalConsole):
        def print(self, *objects: Any, **_: Any) -> None:
            for one in objects:
                inner = getattr(one, "renderable", one)
                found.extend(grids(inner) if isinstance(inner, Grid | Group) else [])

    show(Kept(width=200))
    return found


def simulation() -> Any:
    metrics = Some(reward_mean=-0.0471, steps=48, scale=0.37, changed_weights=0)
    gate = Some(open=True)
    lived = Some(reward=0.4762, rise=0.512345, low=0.4, high=0.6, overlap=0.701)
    delivery = Some(
        checks=(Some(route="update-task", passed=True, differing=166725, error=2.4e-7, logits_error=2.4e-6),)
    )
    night = Some(
        lived=lived, drift=Some(overlap=0.701, kl=0.057), delivery=delivery,
        update=Some(night=metrics, gate=gate, steps=(), reasons=()),
    )  # fmt: skip
    other = Some(learner="posterior", last=lived, gate=gate)
    return Some(nights=[night] * 3, config=Some(learners=("posterior",)), others=[other] * 9)


def population() -> Any:
    group = Some(
        title=USER, devices=12345, gain=0.41234, gain_quantiles=(-0.123,) * 7, below_zero=0.152,
        overlap=0.701, kl=0.123, held_back=0.97, stopped=0.1, scaled=0.974, dropped=0.01, silent=0.2,
    )  # fmt: skip
    return Some(groups=[group, group])


def record() -> Any:
    gate = Some(name="route update-task", passed=False, detail="differs by 1.2e-05, must be ≤ 1e-06")
    return Some(
        parents=("h0001-9bf39003a03f",), created=WHEN, identity={"vocabulary": DIGEST}, gates=[gate] * 2,
        data={"feedback": DIGEST}, settings={"learner": "posterior"}, before={"kl": 1.0, "reward_mean": 0.5},
        after={"kl": 1.0000001, "overlap_shipped": 0.7},
    )  # fmt: skip


def stored() -> Any:
    return Some(
        version="h0002-9bf39003a03f", record=record(), files={"head.safetensors": Some(sha256=DIGEST)}
    )


def versions() -> Any:
    line = Some(version="h0002-9bf39003a03f", active=True, pinned=True, stored=stored(), damage=None)
    bad = Some(version="h0003-9bf39003a03f", active=False, pinned=False, stored=None, damage="must " * 20)
    return [line, bad]


def audit() -> Any:
    entry = Some(version="h0002-9bf39003a03f", at=WHEN, how="activated")
    return Some(damage={"h0002-9bf39003a03f": None, "h0003-9bf39003a03f": "damaged"}, log=[entry, entry])


def difference() -> Any:
    token = Some(token="self pitying", bias=-0.0012345, weight=0.12345)
    norms = {"weight_norm": 5.123456, "changed_weights": 166400, "bias_norm": 0.1, "changed_biases": 325}
    return Some(**norms, relative=0.01234, gained=[token], lost=[token], turned=[token])


def parity_report() -> Any:
    measures = Some(
        max_abs=2.4e-06, mean_abs=1.2e-07, relative=3.1e-07, cosine=0.9999999, psnr=123.456, top8=0.99999,
        rank=1.0,
    )  # fmt: skip
    one = Some(
        package="PersonalityModelUpdatable.mlpackage", runtimes="coreml / golden", feature="probabilities",
        measures=measures,
    )  # fmt: skip
    runtime = Some(name="coreml", unavailable="needs macOS 14 or newer", what="")
    verdict = [within("a", "logits", 2.4e-06, "<=", 1e-4)]
    return Some(
        bundle="b", runtimes=[runtime], worst=lambda: [one], holds=lambda _: True, checks=verdict,
        failures=[Check("x", "logits: max |difference|", "failed", "row 3", 0.25, "<=", 1e-4)], passed=False,
    )  # fmt: skip


def traced() -> Any:
    op = OpTrace(
        model="", position=123, op="layer_norm", output="encoder_layer_11_attention_output_LayerNorm_cast",
        shape=(1, 256, 384), low=-123.4, high=65504.0, accumulated=Error(1.2e-3, 0.1), note=Note.NONE,
        added=Error(1.1e-3, 0.1), overflow=Overflow.BEFORE,
    )  # fmt: skip
    config = TraceConfig(Path("p.mlpackage"), input=Path("i.npz"))
    return trace.report(config, [op] * 3, ["logits"])


def inspected() -> Any:
    feature = Some(
        name="embeddings", type="multiArray", dtype="float32", shape_text="1..64 × 1536", optional=True,
        description="what the encoder says of a text",
    )  # fmt: skip
    tensor = Some(
        name="encoder.layer.11.attention.self.query.weight", dtype="float32", updatable=True, shape=(1536, 5),
        bytes=3145728, offset=24164352, fingerprint=DIGEST, external=None,
    )  # fmt: skip
    count = Some(dtype="float16", tensors=104, elements=22713216, bytes=45426432)
    info = Some(layers=["projection"], losses=[], optimizer="SGD", parameters={})
    model = Some(
        kind="mlProgram", specification_version=8, minimum_os="iOS 17", updatable=True, functions=[],
        default_function=None, inputs=[feature], outputs=[feature], states=[], training_inputs=[], labels=[],
        predicted_feature="", metadata={"vocabulary": DIGEST}, details={}, custom_layers={}, preprocessing=[],
        parameters=[count, count], weight_files={}, update=info, tensors=[tensor], problems=[], submodels=[],
    )  # fmt: skip
    op = OpCost("encoder_layer_11_output_LayerNorm_cast_fp16", "linear", 123456789, 246913578, 10**8, 1, 2, 3)
    cost = Cost(
        {"input_ids": (1, 128), "attention_mask": (1, 128)}, 1435041792, 2870083584, 10**9, 22713216, 10**8,
        12345678, {"scaled_dot_product_attention": 12}, (op, replace(op, multiply_adds=None)),
    )  # fmt: skip
    package = Some(path="/x/TextEncoder.mlpackage", bytes=24179801, model=model, cost=cost)

    def show(console: TerminalConsole) -> None:
        inspection._model(model, console, True)  # type: ignore[arg-type]
        folder: Any = Some(
            path="b",
            type="bundle",
            bytes=1,
            summary={"run": DIGEST},
            packages=[package],
            problems=[],
            onnx=[],
        )
        inspection._folder(folder, console, False)
        cost_rendering.render_cost(cost, console)

    return printed_grids(show)


def examined() -> Examination:
    needs = (Package("sentence-transformers", ">=3.0", "5.1.0", True), Package("torch", ">=2.6", None, False))
    found = {"torch": Found(True, "multiplies as NumPy does", 12.3), "gguf": Found(False, "ended by 11", 0.1)}
    parts = (Part("core", needs, found), Part("companion", needs, {}))
    return Examination("0.4.0", {"processor": "of 2 cores " * 9}, {"MiniLM": "of a package"}, parts, found)


def compared() -> Any:
    weight = Some(name="projection.weight", text="float32 325 × 512", norm=12.3456, fingerprint=DIGEST)
    change: Any = Some(a=weight, b=weight, changed=166400, max_difference=1.2e-3, relative=3.4e-5)
    return printed_grids(lambda console: diff_rendering._changed_weights(console, [change] * 2, 24))


def memories() -> Any:
    hit = Some(
        score=1.234, dense=0.712, lexical=17.4, chunk_id="c-0123456789abcdef", time=WHEN,
        text="I am allergic to peanuts. " * 9,
    )  # fmt: skip
    known = Some(
        **vars(hit), user="default", role="user", last_used=WHEN, turns=["t-01", "t-02"], tags=[], why=None,
        source="chat", hidden_by="",
    )  # fmt: skip
    chosen = Some(turn="t-0123456789abcdef", time=WHEN, role="user", text=hit.text)
    found = Some(figures={"reciprocal rank fusion": Some(recall=0.9123, mrr=0.8123)})
    typed: Any = (hit, known, chosen, found)
    hit, known, chosen, found = typed
    return [
        memory.hits_table([hit]), memory.known_table([known]), memory.chunk_table(known),
        memory.chosen_table([chosen]), memory.evaluation_table(found),
    ]  # fmt: skip


def lm_tables() -> Any:
    entry = {
        "step": 12000, "val_loss": 2.1234, "train_loss": 2.01, "gain": 0.0123, "tokens_per_second": 123456.0,
        "gradient_norm": {"mean": 0.51, "max": 12.5, "clipped": 0.12},
        "update_to_weight": dict.fromkeys(GROUPS, 1.2e-4),
    }  # fmt: skip
    bits = Some(documents=1234, bytes=1234567, model=1.234, kneser_ney=2.345, xz=3.456)
    call = Some(examples=120, exact=0.9, tool=0.95, valid=1.0, abstained=None)
    share = Some(examples=120, right=0.5)
    evaluation: Any = Some(
        bits={"persona-chat": bits}, calls={"weather": call}, abstention=share, reasoning=share,
        tags=Some(documents=12, right=1.2, shuffled=1.3),
        samples=[Some(source="s", prompt="p " * 40, text="t " * 90)],
    )  # fmt: skip
    return [*lm.health_tables([entry]), *lm.evaluation_tables(evaluation)]


def character_tables() -> Any:
    quality = Some(
        expected_accuracy=0.81234,
        ceiling=0.9,
        kl=0.01234,
        accuracy=None,
        ece=0.0123,
        least_ece=0.0,
        error=None,
    )
    models = {name: {"action": quality} for name in character._COLUMNS}
    found: Any = Some(figures={"test": models}, likeliest_speak={"test": (0.4, 0.5)}, sizes={"test": 1234})
    return list(character.evaluation_tables(found))


def personality_tables() -> Any:
    found = Some(auc=0.9123, average_precision=0.5, hits={1: 0.2, 3: 0.4, 5: 0.5, 8: 0.7}, coverage=0.9)
    measured = {"this run": Some(**vars(found), calibration_error=0.01)}
    pair = Some(label="self pitying", instead="melancholic", texts=123, share=0.251)
    prediction = Some(text="word " * 30, tokens=("self pitying", "proud"), probabilities=(0.861, 0.153))
    evaluation: Any = Some(measured=measured, confusions=[pair])
    predicted: Any = [prediction, prediction]
    return [
        personality.measured_table(evaluation), personality.confusion_table(evaluation),
        personality.prediction_table(predicted),
    ]  # fmt: skip


def exported() -> Any:
    entry = Some(
        file="PersonalityModelUpdatable.mlpackage", route="update-task", minimum_os="iOS 17, macOS 14",
        precision="float32", bytes=24179801,
    )  # fmt: skip
    manifest: Any = Some(packages={"model": entry})
    return export.bundle_table(manifest)


def tuned() -> Any:
    night = Some(
        groups=50, dropped_groups=3, candidates=200, reward_mean=0.1234, steps=48, gradient_norm=0.123,
        changed_weights=166725, head_change=5.12, kl_shipped=0.05, overlap_shipped=0.7,
    )  # fmt: skip
    update: Any = Some(night=night)
    return simulate.update_table(update)


def night_tables() -> list[Grid]:
    sets = SetFigures("held out by night 3", "target", 1234, -2.345, -1.234, 1.111, 0.987, 1.234)
    split = Some(train=[0] * 12345, held_out=[0] * 678)
    one: Any = Some(
        number=12, began=WHEN, step="done", judged=True, accepted=True, split=split, sets=[sets],
        lost=["a"] * 12, won=[], activated="a0012-9bf39003a03f", head=Some(accepted=True),
    )  # fmt: skip
    return [night.nights_table([one]), night.sets_table([sets])]


def domains() -> Grid:
    suite = default_suite()
    return capability.domain_table(
        [Scored(task, "an answer", float(i % 2)) for i, task in enumerate(suite.tasks)]
    )


FIGURES = (
    registry.Figure("reward", "before", "reward_mean", "+.2f"),
    registry.Figure("overlap", "after", "overlap_shipped", ".2f"),
)
TABLES: dict[Any, Any] = {
    memory: lambda: memories(),
    night: night_tables,
    capability: domains,
    fleet: lambda: [fleet.groups_table(population()), fleet.nights_table(population())],
    adapters: lambda: adapters.difference_tables(
        AdapterDifference(1.2345, 2.5, 1.5, 0.98765, (PartChange("ffn_gate", 0.1, 12345.6, 0.5),))
    ),
    heads: lambda: heads.difference_tables(difference()),
    registry: lambda: [
        registry.versions_table(versions(), FIGURES), *registry.audit_tables(audit()),
        *registry.record_tables(stored()),
    ],
    parity: lambda: printed_grids(lambda console: parity.render(parity_report(), console)),
    simulate: lambda: [
        simulate.nights_table(simulation()), simulate.learners_table(simulation()),
        simulate.routes_table(simulation()), tuned(),
    ],
    trace: traced,
    inspection: inspected,
    layout: inspected,
    cost_rendering: inspected,
    doctor: lambda: list(doctor.tables(examined())),
    week: lambda: [week.nights_table(lived_week()), week.parts_table(day_figures(lived_week()))],
    diff_rendering: compared,
    checks: lambda: [checks.ChecksTable(parity_report().failures)._narrow()],
    character: character_tables,
    lm: lm_tables,
    personality: personality_tables,
    export: exported,
}  # fmt: skip
"""Of each module that makes tables, all of them."""


def test_every_module_with_a_table_is_here_and_none_makes_its_own() -> None:
    packages = ("personality_common", "pretrain", "grpo", "device_sim")
    sources = {p: p.read_text() for package in packages for p in (ROOT / package).rglob("*.py")}
    named = {p for p, text in sources.items() if "terminal.tables import" in text}
    assert named == {Path(module.__file__) for module in TABLES}
    own = [
        p.name for p, text in sources.items() if re.search(r"from rich(\.table)? import.*\b(T|t)able", text)
    ]
    assert own == ["tables.py"]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("module", TABLES, ids=lambda module: module.__name__)
def test_nothing_is_cut_off(module: Any, width: int) -> None:
    found = list(grids(TABLES[module]()))
    assert found
    for grid in found:
        assert_whole(grid, width)


def assert_whole(grid: Grid, width: int) -> None:
    text = drawn(grid, width)
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, lines)) <= width, text
    said = " ".join(text.partition("no room for: ")[2].split())
    for index, column in enumerate(grid.columns):
        gone = column.name and column.name in re.split(", | each", said)
        if gone:
            assert column.drop, "a column that has no place in the order must stay"
            continue
        for row in grid.rows:
            cell = str(row[index])
            if column.kind == "text":
                words = " ".join(lines)
                for number in re.findall(r"(?<!\S)[+-]?\d[\d.,e+-]*%?(?!\S)", cell):
                    assert number in words, (number, text)
            elif not (not column.name and column.drop):
                assert any(cell in line for line in lines), (cell, text)


def test_columns_go_in_the_order_that_is_said() -> None:
    columns = (Column("id"), Column("b" * 20, drop=2), Column("c" * 20, "figure", drop=1), *figures("d" * 20))
    grid = Grid(columns, [("h0001", "x", "1", "2")])
    assert [len(grid.shown(width)) for width in (71, 70, 49, 48)] == [4, 3, 3, 2]
    assert grid.shown(50) == [0, 1, 3]
    assert " ".join(drawn(grid, 48).split()).endswith(f"no room for: {'c' * 20}, {'b' * 20}")
    blocks = drawn(grid, 25).splitlines()
    assert [line.split() for line in blocks if "ddd" in line] == [["d" * 20, "2"]]
    assert "no room" not in "".join(blocks)


def test_texts_break_between_words_and_digests_are_shortened_whole() -> None:
    def lines(text: str, width: int) -> list[str]:
        return wrapped(Text(text), width).plain.split("\n")

    assert lines("one two three", 7) == ["one two", "three"]
    assert lines("one\u00a0two three", 7) == ["one two", "three"]
    assert lines("onetwothree", 4) == ["onet", "woth", "ree"]
    assert lines("a:b=0.5,tempo=1.25", 12) == ["a:b=0.5,", "tempo=1.25"]
    assert lines("日本語", 4) == ["日本", "語"]
    assert lines(f"sha {DIGEST} end", 60) == [f"sha {DIGEST[:12]}… end"]
    assert lines(f"sha {DIGEST}", 64) == ["sha", DIGEST]
    assert lines("", 9) == [""]
    assert lines("a\n\nb", 9) == ["a", "", "b"]


def test_what_a_file_says_is_text() -> None:
    grid = Grid((Column("a"), Column("b", "text")), [("[bold]x[/]", "y\x1b[31mz")], title="[red]t")
    text = drawn(grid, 60)
    assert "[bold]x[/]" in text
    assert "[red]t" in text
    assert "\x1b" not in text
    assert "\x1b" not in drawn(facts([("n\x1b", "v")]), 60)
