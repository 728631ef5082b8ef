"""Every report in a browser, on a phone and on a screen: nothing is cut off, and what it says comes first."""

import html
import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace as Some
from typing import Any

import pytest
from lived_week import lived_week

from device_sim.fleet import html as fleet
from device_sim.fleet.figures import Group, Population
from device_sim.fleet.plan import Plan
from device_sim.parity import page as parity
from device_sim.parity.report import Comparison, DepthPoint, Example, Report, RuntimeStatus
from device_sim.simulate import html as simulate
from device_sim.simulate.drift import Example as Shown
from device_sim.simulate.drift import TokenShift
from device_sim.users.nights import NightsConfig
from device_sim.week import html as week
from grpo.config import GRPOConfig
from grpo.gate import GateReading
from personality_common.evidence.claims import Check, claim, within
from personality_common.evidence.distances import HISTOGRAM_EDGES, Measures
from personality_common.evidence.provenance import Provenance
from pretrain.lm import evaluation_page as language
from pretrain.lm.answers import Calls, Sample, Share
from pretrain.lm.bits import Bits, TagBits
from pretrain.lm.evaluation import Evaluation as LanguageEvaluation
from pretrain.personality import evaluation_report
from pretrain.personality.label_metrics import HITS

WIDTHS = (420, 1280)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BUNDLE: Any = Some(
    encoder=Some(name="all-MiniLM-L6-v2", fingerprint="e" * 64), vocabulary=Some(fingerprint="v" * 64),
    run_fingerprint="r" * 64, manifest=Some(reference=None),
    part=lambda name: Some(entry=Some(tensors=(), bytes=24179801)),
)  # fmt: skip
LONG_USER = "profile:strength=0.5,noise=1.25,answers=0.35"


def fleet_page(made: Provenance) -> str:
    nights = {name: [0.71, 0.7, 0.9] for name in ("overlap", "kl", "scaled", "dropped", "stopped", "silent")}
    groups = [
        Group(
            name=name, control=name == "random", devices=12345, gain=0.4123, gain_quantiles=(-0.1,) * 7,
            below_zero=0.15, oracle_share=0.57, kl=0.1, kl_worst=0.2, overlap=0.7, overlap_worst=0.5,
            gains=(0.1, 0.2, 0.3, 0.4), held_back=0.97, stopped=0.1, scaled=0.97, dropped=0.01, silent=0.2,
            nights=nights, histogram=(3,) * 40,
        )
        for name in ("all", LONG_USER, "random")
    ]  # fmt: skip
    worst = Some(device=1234, kind=0, gain=-0.123, overlap=0.7, kl=0.1, stopped=1, scaled=2, dropped=3)
    plan = Plan(
        Path("/f"), Path("bundles/first"), "", "fixtures/conversations.jsonl", "", None, 12345,
        f"0.9*{LONG_USER}+0.1*random", "posterior", NightsConfig(nights=28), GRPOConfig(), 64,
    )  # fmt: skip
    checks = (
        within("worse.0", f"{LONG_USER}: share of devices worse off", 0.15, "<=", 0.05, "12,345 devices"),
    )
    edges = tuple(-0.5 + i * 0.03 for i in range(41))
    found: Any = Population(tuple(groups), edges, (worst,) * 3)  # type: ignore[arg-type]
    whole: Any = Some(plan=plan, checks=checks, bundle=BUNDLE)
    return fleet.report(whole, found, made)


def simulation_page(made: Provenance) -> str:
    metrics = Some(
        groups=50,
        candidates=400,
        reward_mean=-0.0471,
        steps=48,
        scale=0.37,
        kl_old=0.03,
        overlap_shipped=0.8,
        entropy=3.1,
    )
    lived = Some(rise=0.51, low=0.47, high=0.54)
    update = Some(
        night=metrics, gate=GateReading(5.52e10, 20.0, open=True), steps=(), reasons=("scaled back " * 9,)
    )
    night = Some(
        lived=lived, drift=Some(overlap=0.701, kl=0.057), update=update, training_rise=0.4,
        delivery=Some(version="h0002", checks=[Some(route="patch")]),
    )  # fmt: skip
    config = Some(
        user="random", feedback=None, objective="learner", learners=("posterior",), route="all",
        nights=NightsConfig(), grpo=GRPOConfig(),
    )  # fmt: skip
    checks = (claim("a", "frozen tensors bit-identical", True, "26 tensors, 24,164,352 bytes, in 3 copies"),)
    shifts = [TokenShift(f"token {i}", 0.1 * (i % 7), 0.1 * (i % 5)) for i in range(30)]
    example = Shown("A text that somebody wrote. " * 6, ("joyful", "proud") * 4, ("joyful", "calm") * 4)
    found: Any = Some(
        nights=[night] * 7, passed=True, checks=checks, measured=300, shifts=shifts, examples=[example],
        bundle=BUNDLE, config=config,
    )  # fmt: skip
    return simulate.report(found, made)


def parity_page(made: Provenance) -> str:
    def measures(most: float) -> Measures:
        return Measures(
            rows=300, nonfinite=0, max_abs=most, mean_abs=most / 9, scaled_abs=most, relative=most,
            cosine=0.9999999999999, mean_cosine=1.0, psnr=123.456, top8=0.99999, rank=1.0, mean_rank=1.0,
            worst_row=3, worst_column=2, histogram=tuple(range(len(HISTOGRAM_EDGES) - 1)), equal=99,
        )  # fmt: skip

    package = "PersonalityModelUpdatable.mlpackage"
    comparisons = tuple(
        Comparison(package, "coreml", other, "texts", False, feature, measures(2.4e-6))
        for other in ("torch", "golden") for feature in ("logits", "sentence_embedding")
    )  # fmt: skip
    points = tuple(
        DepthPoint(
            i, "layer_norm", f"encoder_layer_{i}_output", f"encoder.layer.{i}.output" if i % 2 else None,
            (1, 384), 1e-7, math.inf if i == 30 else 2e-7 if i % 2 else None,
        )
        for i in range(38)
    )  # fmt: skip
    example = Example(package, "coreml", "torch", "texts", 3, "what somebody wrote " * 20, 2.4e-6, "joyful",
                      (1.0, 1.1), (("joyful",) * 8, ("calm",) * 8))  # fmt: skip
    checks = (
        within("logits.max-abs", "logits: max |difference|", 2.4e-6, "<=", 1e-6, "row 3 of texts",
               package=package, runtimes="coreml / torch"),
        Check("x", "files have the sizes and SHA-256 of the manifest", "passed"),
    )  # fmt: skip
    runtimes = (
        RuntimeStatus("coreml", "Core ML", "needs macOS 14 or newer"),
        RuntimeStatus("mil", "ours", None),
    )
    report = Report("bundles/first", "r" * 64, {"target": "iOS17", "encoder_precision": "int8"}, "run", 300,
                    runtimes, checks, comparisons, {package: points}, (example,))  # fmt: skip
    return parity.page(report, made)


def evaluation_page(made: Provenance) -> str:
    token = Some(texts=120, auc=0.91, average_precision=0.5)
    one = Some(
        auc=0.9123, average_precision=0.5, hits=dict.fromkeys(HITS, 0.4), coverage=0.9,
        calibration_error=0.01, tokens=[token] * 5,
    )  # fmt: skip
    names = ("self pitying", "joyful", "melancholic", "proud", "conscientious")
    pair = Some(label="self pitying", instead="melancholic", texts=123, share=0.251)
    found: Any = Some(
        measured=dict.fromkeys(("model", "teacher", "prior", "chance"), one), tokens=names, texts=600,
        confusions=[pair] * 9, run="r" * 64, data="d" * 64,
    )  # fmt: skip
    return evaluation_report.page(found, made)


def language_page(made: Provenance) -> str:
    one = Bits(123, 123_456, 0.5321, 0.6333, 0.8765)
    calls = {name: Calls(200, 0.91, 0.98, 0.995, 0.01) for name in ("held-out values", "held-out phrasings")}
    found = LanguageEvaluation(
        {"tools": one, "self-description": one, "talk": Bits(9, 800, 0.7, 0.6, 1.2)}, calls, Share(100, 0.97),
        Share(40, 0.5), TagBits(132, 0.3, 0.9),
        [Sample("tools", '<b>"{\n' + "long " * 60, "</td>" + "x" * 200), Sample("talk", "", "Hi")],
    )  # fmt: skip
    return language.page(found, "demo-lm", made)


def week_page(made: Provenance) -> str:
    return week.page(lived_week(), made)


PAGES = {
    "fleet": fleet_page, "simulate": simulation_page, "parity": parity_page, "evaluate": evaluation_page,
    "language model": language_page, "week": week_page,
}  # fmt: skip


def test_the_headline_says_the_most_important_thing(made: Provenance) -> None:
    heads = {name: re.search("<h1>(.*?)</h1>", page(made)) for name, page in PAGES.items()}
    said = {name: html.unescape(found[1]) for name, found in heads.items() if found}
    assert said == {
        "fleet": "15% of devices worse off, 97% held back",
        "simulate": "Reward +0.510 on held-out texts (95%: +0.470 to +0.540), 70% of the top 8 kept",
        "parity": "Parity fails: PersonalityModelUpdatable coreml / torch: logits: max |difference|",
        "evaluate": "AUC 0.912 of 1, the teacher 0.912, chance 0.5",
        "language model": "Calls: 91% right of held-out values, 91% right of held-out phrasings",
        "week": "Asked the next day, 10 of 10 answered with adapter and memory, 6 by the memory alone, "
        "8 by the adapter alone",
    }
    assert "random (control)" in PAGES["fleet"](made)
    assert "10% random (control: rewards say nothing)" in PAGES["fleet"](made)
    assert "user random (control: rewards say nothing)" in PAGES["simulate"](made)


@pytest.mark.parametrize("name", PAGES)
def test_where_it_comes_from_is_on_every_page(name: str, made: Provenance) -> None:
    page = html.unescape(PAGES[name](made))
    for said in ("2026-01-02 03:04:05 UTC", made.machine, made.command, *made.versions.values()):
        assert said in page
    for chart in re.findall(r"<svg viewBox.*?</svg>", page):
        if 'class="meter"' not in chart:
            axes = re.findall(r'class="axis">([^<]+)<', chart)
            assert len(axes) == 2, "an axis without its name and unit"
            assert all(axes)


MEASURE = """
const done = [];
for (const frame of document.querySelectorAll('iframe')) {
  const page = frame.contentDocument, width = page.documentElement.clientWidth, wrong = [];
  const say = (what, e) => wrong.push(what + ' ' + e.tagName + ' ' + (e.textContent || '').slice(0, 60));
  if (page.documentElement.scrollWidth > width) say('page is wider', page.body);
  for (const e of page.querySelectorAll('body *')) {
    if (e.closest('.wide .scroll') || e.closest('head') || e.closest('thead') && width < 640) continue;
    const box = e.getBoundingClientRect();
    if (box.width && (box.right > width + 1 || box.left < -1)) say('sticks out', e);
    const card = e.closest('.card');
    if (card && box.width && box.right > card.getBoundingClientRect().right + 1) say('out of its card', e);
    if (['TABLE', 'TD', 'TH', 'P', 'H1', 'DIV', 'FIGCAPTION'].includes(e.tagName)
        && e.scrollWidth > e.clientWidth + 1 && e.clientWidth) say('is cut off', e);
  }
  for (const svg of page.querySelectorAll('figure svg[role]')) {
    const frame = svg.getBoundingClientRect();
    for (const text of svg.querySelectorAll('text')) {
      const box = text.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.bottom > frame.bottom + 1)
        say('outside of its chart', text);
      if (parseFloat(page.defaultView.getComputedStyle(text).fontSize) * frame.width
          / svg.viewBox.baseVal.width < 9) say('too small', text);
    }
  }
  done.push([frame.title, wrong]);
}
document.body.textContent = 'FOUND' + JSON.stringify(done) + 'END';
"""


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, which is not installed")
def test_nothing_overflows(made: Provenance, tmp_path: Path) -> None:
    """One browser for all pages: each in a frame of each width, measured from outside."""
    assert CHROMIUM is not None
    frames = "".join(
        f'<iframe title="{name} {width}" style="width:{width}px;height:900px;border:0" '
        f'srcdoc="{html.escape(page(made), quote=True)}"></iframe>'
        for name, page in PAGES.items()
        for width in WIDTHS
    )
    file = tmp_path / "frames.html"
    file.write_text(
        f"<!doctype html><meta charset=utf-8><body>{frames}"
        f"<script>window.onload = () => {{ {MEASURE} }}</script></body>"
    )
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         "--virtual-time-budget=5000", "--dump-dom", file.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = re.search("FOUND(.*)END", done.stdout, re.S)
    assert found, done.stderr[-2000:]
    measured = dict(json.loads(html.unescape(found[1])))
    assert len(measured) == len(PAGES) * len(WIDTHS)
    assert {name: wrong for name, wrong in measured.items() if wrong} == {}
