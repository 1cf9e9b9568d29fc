"""The style sheet of the page, light and dark."""

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2024; --soft: #5f6770; --rule: #dde1e6; --grey: #a9b0b8;
  --c0: #0b66c3; --c1: #c4570a; --c2: #16845c; --c3: #9a3fa5; --c4: #b8860b; --c5: #44546a; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171a; --ink: #e6e9ec; --soft: #9aa3ac; --rule: #2c3238; --grey: #626b74;
    --c0: #5aa9f5; --c1: #f2935c; --c2: #4cc497; --c3: #d48ade; --c4: #e0b64a; --c5: #a9b8cc; }
}
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 24px 16px 64px; }
h1, h2, h3 { line-height: 1.2; margin: 1.6em 0 .4em; }
h1 { margin-top: 0; }
p { color: var(--soft); max-width: 80ch; margin: .3em 0 .8em; }
.legend { position: sticky; top: 0; background: var(--paper); max-width: none; padding: 8px 0; border-bottom: 1px solid var(--rule); }
.legend span { margin-right: 18px; color: var(--ink); white-space: nowrap; }
.legend i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px; background: currentColor; }
.charts { display: flex; flex-wrap: wrap; gap: 20px 28px; }
figure { margin: 0; flex: 0 1 auto; min-width: 0; }
figcaption { font-weight: 600; margin-bottom: 4px; }
svg { display: block; width: 100%; height: auto; }
section .charts svg { min-width: 290px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; font-weight: 400; }
thead th { color: var(--soft); }
th:first-child { text-align: left; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); } .c3 { color: var(--c3); } .c4 { color: var(--c4); }
.c5 { color: var(--c5); } .muted { color: var(--grey); }
.line { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; }
.dashed { stroke-dasharray: 5 4; }
.dot { fill: currentColor; stroke: var(--paper); stroke-width: 1.5; stroke-dasharray: none; }
.bar { fill: currentColor; }
.interval { stroke: var(--ink); fill: none; stroke-width: 1.2; }
.grid { stroke: var(--rule); fill: none; }
.ideal { stroke: var(--grey); stroke-dasharray: 3 4; fill: none; }
text { fill: var(--ink); font-size: 12px; }
.tick, .axis { fill: var(--soft); font-size: 11px; }
.end { text-anchor: end; } .mid { text-anchor: middle; }
"""
