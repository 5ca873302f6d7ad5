"""Reviews as people read them: lines, Markdown, and a page of HTML with its plots inside. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

from statecore.reviewing.report import Plot, Rank, Review, Section

_BARS: Final = "▁▂▃▄▅▆▇█"
_WIDTH: Final = 720
_HEIGHT: Final = 120
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}"
    "th{text-align:left;font-weight:normal;padding-right:2rem;color:#555;vertical-align:top}"
    "svg{width:100%;height:auto}rect{fill:#3a6ea5}text{font-size:10px;fill:#555}"
    ".critical{color:#a00}.warning{color:#a60}"
)


def data(review: Review) -> dict[str, Any]:
    """Return a review for programs."""
    return {
        "review": review.title,
        "store": review.store,
        "since": _time(review.since),
        "until": _time(review.until),
        "concerns": [
            {"rank": each.rank.name.lower(), "text": each.text, "advice": each.advice}
            for each in review.concerns
        ],
        "sections": [
            {
                "title": section.title,
                "figures": dict(section.figures),
                "plots": [
                    {"title": plot.title, "points": [list(point) for point in plot.points]}
                    for plot in section.plots
                ],
            }
            for section in review.sections
        ],
    }


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def lines(review: Review) -> Iterator[str]:
    """Yield a review for a terminal; the most urgent first."""
    yield f"{review.title} of {review.store}"
    yield _span(review)
    yield ""
    for each in review.concerns:
        yield f"{each.rank.name}: {each.text}"
        yield f"  {each.advice}"
    if not review.concerns:
        yield "Nothing to be done."
    for section in review.sections:
        yield ""
        yield section.title
        width = max((len(name) for name, _ in section.figures), default=0)
        yield from (f"  {name:<{width}}  {figure}" for name, figure in section.figures)
        for plot in section.plots:
            yield f"  {plot.title:<{width}}  {_sparkline(plot)}"


def markdown(review: Review) -> str:
    """Return a review in Markdown."""
    text = [f"# {_plain(review.title)} of {_plain(review.store)}", "", _span(review), ""]
    for each in review.concerns:
        text.append(f"- **{each.rank.name.lower()}**: {_plain(each.text)}  ")
        text.append(f"  {_plain(each.advice)}")
    if not review.concerns:
        text.append("Nothing to be done.")
    for section in review.sections:
        text += ["", f"## {section.title}", "", "| | |", "|---|---|"]
        text += (f"| {_plain(name)} | {_plain(figure)} |" for name, figure in section.figures)
        text += (f"| {_plain(plot.title)} | {_sparkline(plot)} |" for plot in section.plots)
    return "\n".join(text) + "\n"


def html(review: Review) -> str:
    """Return a review as one page that loads nothing, scripts or otherwise."""
    title = escape(f"{review.title} of {review.store}")
    concerns = "".join(
        f'<li class="{each.rank.name.lower()}"><b>{each.rank.name.lower()}</b>: '
        f"{escape(each.text)}<br>{escape(each.advice)}</li>"
        for each in review.concerns
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><h1>{title}</h1>\n"
        f"<p>{_span(review)}</p>\n"
        + (f"<ul>{concerns}</ul>\n" if concerns else "<p>Nothing to be done.</p>\n")
        + "".join(map(_section, review.sections))
        + "</body></html>\n"
    )


def _section(section: Section) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(figure)}</td></tr>\n"
        for name, figure in section.figures
    )
    plots = "".join(map(_plot, section.plots))
    return f"<h2>{escape(section.title)}</h2>\n<table>\n{rows}</table>\n{plots}"


def _plot(plot: Plot) -> str:
    """Return bars as SVG: the numbers in titles, shown when pointed at."""
    most = max((number for _, number in plot.points), default=0) or 1
    wide = _WIDTH / max(len(plot.points), 1)
    bars = []
    for at, (name, number) in enumerate(plot.points):
        tall = _HEIGHT * number / most
        place = f'x="{at * wide + 1:.1f}" y="{_HEIGHT - tall:.1f}"'
        size = f'width="{wide - 2:.1f}" height="{tall:.1f}"'
        said = f"<title>{escape(name)}: {number:,}</title>"
        bars.append(f"<rect {place} {size}>{said}</rect>")
        if at % max(1, len(plot.points) // 12) == 0:
            bars.append(f'<text x="{at * wide + 1:.1f}" y="{_HEIGHT + 14}">{escape(name)}</text>')
    label = escape(f"{plot.title}, at most {most:,}")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 20}" role="img" aria-label="{label}">'
        f"{''.join(bars)}</svg>\n<p>{label}</p>\n"
    )


def _sparkline(plot: Plot) -> str:
    most = max((number for _, number in plot.points), default=0) or 1
    last = len(_BARS) - 1
    bars = "".join(
        _BARS[max(1, round(number / most * last))] if number else _BARS[0]
        for _, number in plot.points
    )
    return f"{bars}  at most {most:,}"


def _span(review: Review) -> str:
    return f"{review.since:%Y-%m-%d %H:%M} to {review.until:%Y-%m-%d %H:%M} UTC"


def is_critical(review: Review) -> bool:
    """Tell whether something is to be done at once."""
    return any(each.rank == Rank.CRITICAL for each in review.concerns)


def _plain(text: str) -> str:
    """Return text that Markdown takes for nothing else."""
    marked = "".join(f"\\{sign}" if sign in "\\`*_{}[]<>()#!|~&" else sign for sign in text)
    return " ".join(marked.split())
