"""How the report looks, in light and in dark."""

from typing import Final

CSS: Final = """
:root{color-scheme:light dark;--bg:#f6f5f2;
--card:#fff;--ink:#1d1f24;--mute:#676b75;--rule:#e3e1dc;
--s0:#2f5fd0;--s1:#c2571a;
--ok:#17794a;--bad:#b3261e;
--okbg:#dff3e7;--badbg:#fbe3e0}
@media (prefers-color-scheme:dark){:root{--bg:#15171b;
--card:#1e2126;--ink:#e9e8e4;--mute:#9aa0ab;--rule:#343840;
--s0:#86abff;--s1:#f0a15e;
--ok:#6fd3a0;--bad:#ff8f86;
--okbg:#1d3b2c;--badbg:#47211f}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 20px 48px}
h1{margin:0;font-size:28px;letter-spacing:-.01em}
h2{margin:0 0 14px;font-size:18px}
h3{margin:0 0 6px;font-size:15px}
.sub,.note,.detail,footer,.count{color:var(--mute)}
.sub{margin:4px 0 20px}
.note{margin:-8px 0 12px;font-size:13px}
.more{margin:8px 0 0;font-size:13px;color:var(--mute)}
.count{font-weight:400}
.card{background:var(--card);border:1px solid var(--rule);border-radius:12px;
padding:20px 22px;margin-bottom:18px}
.ok{color:var(--ok)}
.bad{color:var(--bad)}
.mute{color:var(--mute)}
table{border-collapse:collapse;width:100%}
.verdict td{padding:7px 10px 7px 0;border-top:1px solid var(--rule);vertical-align:top}
.verdict tr:first-child td{border-top:0}
.mark{width:28px;font-weight:700;text-align:center}
.verdict td:nth-child(2){width:38%}
.detail{font-size:14px}
.charts,.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:22px 28px}
figure{margin:0}
figcaption{font-weight:600;font-size:14px;margin-bottom:4px}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;font-weight:400;font-size:13px;
color:var(--mute);min-height:20px}
.key{display:inline-flex;align-items:center;gap:6px}
figure>svg{width:100%;height:auto;display:block}
.grid{stroke:var(--rule)}
.tick{fill:var(--mute);font-size:12px}
.limit{stroke:var(--mute);stroke-dasharray:2 4}
.limit-name{fill:var(--mute);font-size:12px}
.line{fill:none;stroke-width:2.2}
.line.s0{stroke:var(--s0)}
.line.s1{stroke:var(--s1)}
.dot.s0{fill:var(--s0)}
.dot.s1{fill:var(--s1)}
.band{opacity:.16}
.band.s0{fill:var(--s0)}
.band.s1{fill:var(--s1)}
details{margin-top:14px;color:var(--mute);font-size:14px}
summary{cursor:pointer}
.tokens td{padding:3px 8px 3px 0;vertical-align:middle}
.name{white-space:nowrap;width:1%}
.num{white-space:nowrap;width:1%;text-align:right;font-variant-numeric:tabular-nums;font-size:13px;
color:var(--mute)}
.bar{height:6px;border-radius:3px;min-width:1px}
.was{background:var(--rule);margin-bottom:2px}
.now{background:var(--s0)}
article{padding:14px 0;border-top:1px solid var(--rule)}
article:first-of-type{border-top:0;padding-top:0}
blockquote{margin:0 0 8px;font-size:16px;overflow-wrap:anywhere}
.chips{display:flex;flex-wrap:wrap;gap:5px;margin:5px 0;
align-items:center}
.chips b{width:52px;font-weight:400;font-size:13px;
color:var(--mute)}
.chip{border:1px solid var(--rule);border-radius:99px;
padding:0 9px;font-size:13px}
.won{background:var(--okbg);border-color:transparent;color:var(--ok)}
.lost{background:var(--badbg);border-color:transparent;color:var(--bad)}
footer{font-size:13px;margin-top:22px}
"""
