"""The style sheet of the page, light and dark."""

from nightlog.pages.charts import CHART_STYLE

STYLE = (
    CHART_STYLE
    + """body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
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
section .charts svg { min-width: 290px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--rule); text-align: right; white-space: nowrap; font-weight: 400; }
thead th { color: var(--soft); }
th:first-child { text-align: left; }
"""
)
