"""Output of the notebooks: tables of log text that can do no harm, and charts with their own style. No Spark."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from nightlog.errors import ConfigError
from nightlog.lake.lake import Lake
from nightlog.lake.tables import NIGHTS
from nightlog.outcomes import is_published
from nightlog.pages.charts import LONGEST_NAME, shortened, standalone
from nightlog.pages.words import is_unseen, visible
from nightlog.settings import read_settings

if TYPE_CHECKING:
    import duckdb

SHOWN_ROWS = 50
LABEL = re.compile(r'aria-label="([^"]*)"')
# Jupyter would take what stands between dollar signs for formulas.
INERT = "tex2jax_ignore mathjax_ignore"


class Shown:
    """HTML that a notebook displays."""

    def __init__(self, html: str):
        self.html = html

    def _repr_html_(self) -> str:
        return self.html


def open_lake(root: Path | str | None = None) -> Lake:
    """The lake to read: the one named, else NIGHTLOG_LAKE. Raises ConfigError where no night was published there."""
    place = root or read_settings().lake
    lake = Lake(place)
    if not lake.exists(NIGHTS):
        raise ConfigError(f"{lake.root} holds no night: set NIGHTLOG_LAKE to the folder of the tables, or run a night first")
    return lake


def night_or_last(lake: Lake, ds: str | None = None) -> str:
    """The day asked for, else the last one that was published. Raises ConfigError with the nights there are."""
    nights = sorted({row["ds"] for row in lake.rows(NIGHTS, ["ds", "outcome"]) if is_published(row["outcome"])})
    if not nights or ds not in (None, *nights):
        raise ConfigError(f"{lake.root} holds no published night {ds or ''}: it has {', '.join(nights) or 'none'}")
    return ds or nights[-1]


def one(rows: duckdb.DuckDBPyRelation, otherwise: str) -> dict[str, Any]:
    """The only row of a query. Raises ConfigError with what to say `otherwise`."""
    found: list[dict[str, Any]] = rows.to_arrow_table().to_pylist()
    if len(found) != 1:
        raise ConfigError(otherwise)
    return found[0]


def short(text: str | None, most: int = LONGEST_NAME) -> str:
    """Return text of logs or LLMs as the name of a bar: one line of at most `most` characters, without characters that show nothing.

    >>> short("disk\\n\\x1b[31m <NUM> lost")
    'disk [31m <NUM> lost'
    """
    return shortened(" ".join("".join(" " if is_unseen(char) else char for char in text or "").split()), most)


def picture(drawing: str) -> Shown:
    """Return a chart of `nightlog.pages.charts` as an image with a caption; its style stays inside, whatever page it is on."""
    label = LABEL.search(drawing)
    about = "".join(char for char in html.unescape(label[1]) if not is_unseen(char)) if label else ""
    return image(standalone(drawing), about)


def chart(drawing: Any, about: str) -> Shown:
    """Return a chart of Altair as a static image, with what it shows below it and as its description.

    An image runs no script, and shows the same in every viewer. JupyterLab does not know the version of Vega-Lite that Altair writes.
    Raises ConfigError outside of the notebooks' environment.
    """
    if find_spec("vl_convert") is None:
        raise ConfigError(
            "charts need vl-convert: start the notebooks by `make notebooks`, or choose build/jupyter/bin/python as the kernel"
        )
    whole = io.StringIO()
    drawing.save(whole, format="svg")
    return image(whole.getvalue(), "".join(char for char in about if not is_unseen(char)))


def image(svg: str, about: str) -> Shown:
    """Return an SVG file as an image with a caption."""
    data = base64.b64encode(svg.encode()).decode()
    figure = Markup('<figure style="margin: 0"><img alt="{0}" src="data:image/svg+xml;base64,{1}"><figcaption>{0}</figcaption></figure>')
    return Shown(str(figure.format(about, data)))


def table(rows: duckdb.DuckDBPyRelation | Iterable[Mapping[str, Any]], columns: Sequence[str] = (), limit: int = SHOWN_ROWS) -> Shown:
    """Rows as an HTML table: text inert, characters that show nothing made visible, numbers to the right; at most `limit` rows.

    Args: rows: a relation of DuckDB, or dicts; columns: which of them, default all of the first row.
    """
    listed = list(rows) if isinstance(rows, Iterable) else rows.to_arrow_table().to_pylist()
    if not listed:
        return Shown("<p>no rows</p>")
    names = list(columns or listed[0])
    head = Markup("").join(Markup('<th style="text-align: left">{}</th>').format(visible(name)) for name in names)
    body = Markup("").join(Markup("<tr>{}</tr>").format(Markup("").join(cell(row.get(name)) for name in names)) for row in listed[:limit])
    more = f"<p>{len(listed) - limit:,} rows more</p>" if len(listed) > limit else ""
    return Shown(f'<table class="{INERT}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}')


def cell(value: Any) -> Markup:
    """A value in a table.

    >>> cell("<b>"), cell(0.25)
    (Markup('<td style="text-align: left">&lt;b&gt;</td>'), Markup('<td style="text-align: right">0.25</td>'))
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Markup('<td style="text-align: right">{}</td>').format(f"{value:,}" if isinstance(value, int) else f"{value:,.4g}")
    if isinstance(value, datetime):
        value = value.isoformat(" ", "seconds")
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return Markup('<td style="text-align: left">{}</td>').format("–" if value is None else visible(value))
