"""The demo's report: the same figures as bars in the terminal, and as charts in one HTML file without any script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

STATUSES = ("verified", "processing", "requires_input", "canceled")


class Figures(NamedTuple):
    """
    What the report shows, as the warehouse counts it.

    :param title: which days, and from where
    :param tiles: the most important figures, by name
    :param funnel: people by the step that they reached
    :param reasons: failed sessions by the code of their last error
    :param time_to_verify: verified sessions by the time from created to verified
    :param hours: for each hour of day one, its sessions by status
    :param before: sessions of day one by status, at the end of day one
    :param after: the same sessions after day two
    :param moved: from which status to which, and how many
    """

    title: str
    tiles: Mapping[str, str]
    funnel: Mapping[str, int]
    reasons: Mapping[str, int]
    time_to_verify: Mapping[str, int]
    hours: Sequence[Mapping[str, int]]
    before: Mapping[str, int]
    after: Mapping[str, int]
    moved: Mapping[tuple[str, str], int]


# In the terminal

COLORS = {"verified": "green", "processing": "yellow", "requires_input": "blue", "canceled": "red"}
BAR = 40


def to_terminal(figures: Figures, console: Console) -> None:
    """Print the report."""
    console.rule(f"[bold]{figures.title}")
    tiles = Table.grid(expand=True, padding=(0, 1))
    for _ in figures.tiles:
        tiles.add_column(justify="center")
    tiles.add_row(*(Text(value, "bold cyan") for value in figures.tiles.values()))
    tiles.add_row(*(Text(name, "dim") for name in figures.tiles))
    console.print(tiles)
    _bars(console, "From the first session to a verified person", figures.funnel, "green", share=True)
    _bars(console, "Time from created to verified", figures.time_to_verify, "cyan")
    _bars(console, "Why sessions failed", figures.reasons, "magenta")
    _bars(console, "The sessions of day one after day two", figures.after, COLORS.get, before=figures.before)


def _bars(
    console: Console,
    title: str,
    values: Mapping[str, int],
    color: str | Callable[[str], str | None],
    *,
    share: bool = False,
    before: Mapping[str, int] | None = None,
) -> None:
    table = Table.grid(padding=(0, 2))
    largest = max(values.values(), default=0) or 1
    for name, value in values.items():
        style = color if isinstance(color, str) else color(name) or "white"
        length = round(BAR * value / largest) if value else 0
        note = f"{100 * value / largest:.0f} %" if share else ""
        if before is not None:
            change = value - before.get(name, 0)
            note = f"{change:+,}" if change else "as before"
        table.add_row(name, Text("█" * max(length, bool(value)), style), f"{value:,}", Text(note, "dim"))
    console.print(f"\n[bold]{title}")
    console.print(table)


# As HTML

STYLE = """
:root { --page: #f6f8fa; --card: #fff; --text: #1a1f36; --dim: #697386; --line: #e3e8ee; --accent: #635bff;
  --verified: #1a9e63; --processing: #d9901a; --requires_input: #4f7bd9; --canceled: #c74a4a; --reason: #8a5fd1; }
@media (prefers-color-scheme: dark) { :root { --page: #0f131c; --card: #171d2b; --text: #e6e9f2; --dim: #98a2b8;
  --line: #2a3347; --accent: #8f89ff; --verified: #35c285; --processing: #edb04a; --requires_input: #7b9ff0;
  --canceled: #e57373; --reason: #b08cf0; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 32px 24px; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: auto; }
h1 { font-size: 24px; margin: 0 0 4px; } header p { margin: 0 0 24px; color: var(--dim); }
h2 { font-size: 15px; margin: 0 0 12px; }
.tiles, .cards { display: grid; gap: 16px; margin-bottom: 16px; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); }
.cards { grid-template-columns: repeat(auto-fit, minmax(460px, 1fr)); }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 20px; }
.tile b { display: block; font-size: 23px; letter-spacing: -.02em; white-space: nowrap; }
.tile span { color: var(--dim); font-size: 13px; }
.wide { grid-column: 1 / -1; }
svg { display: block; width: 100%; height: auto; } text { fill: var(--text); font-size: 13px; }
text.dim, .legend { fill: var(--dim); color: var(--dim); font-size: 12px; }
.legend { display: flex; gap: 16px; margin-top: 8px; } .legend i { display: inline-block; width: 10px; height: 10px;
  border-radius: 2px; margin-right: 6px; }
.axis { stroke: var(--line); } footer { color: var(--dim); font-size: 13px; }
"""
WIDTH, ROW, LABEL, VALUE = 540, 28, 190, 110


def to_html(figures: Figures) -> str:
    """Return the report as one page that needs nothing from anywhere."""
    tiles = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in figures.tiles.items()
    )
    cards = [
        _card(
            "From the first session to a verified person", _rows(figures.funnel, "verified", row=2 * ROW, share=True)
        ),
        _card("Time from created to verified", _columns(figures.time_to_verify, "accent")),
        _card("Why sessions failed", _rows(figures.reasons, "reason")),
        _card("What day two changed in the sessions of day one", _change(figures)),
        _card("Sessions of day one by hour (UTC) and status", _stacked(figures.hours) + _legend(), wide=True),
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(figures.title)}</title><style>{STYLE}</style>"
        f"<main><header><h1>Stripe Identity</h1><p>{escape(figures.title)}</p></header>"
        f'<section class="tiles">{tiles}</section><section class="cards">{"".join(cards)}</section>'
        "<footer>Exported, merged and counted by airflow-provider-stripe-identity.</footer></main></html>\n"
    )


def _card(title: str, content: str, *, wide: bool = False) -> str:
    return f'<div class="card{" wide" if wide else ""}"><h2>{escape(title)}</h2>{content}</div>'


def _svg(width: int, height: int, parts: Iterable[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(parts)}</svg>'


def _rect(x: float, y: float, width: float, height: float, color: str, tip: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}" rx="3" '
        f'fill="var(--{color})"><title>{escape(tip)}</title></rect>'
    )


def _text(x: float, y: float, words: Any, *, anchor: str = "start", dim: bool = False) -> str:
    kind = ' class="dim"' if dim else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(str(words))}</text>'


def _rows(values: Mapping[str, int], color: str, row: int = ROW, *, share: bool = False) -> str:
    largest = max(values.values(), default=0) or 1
    parts = []
    for number, (name, value) in enumerate(values.items()):
        y = number * row
        shown = f"{value:,}" + (f" ({100 * value / largest:.0f} %)" if share else "")
        length = (WIDTH - LABEL - VALUE) * value / largest
        parts += [
            _text(LABEL - 12, y + row / 2 + 4, name, anchor="end"),
            _rect(LABEL, y + 5, length, row - 10, color, f"{name}: {value:,}"),
            _text(LABEL + length + 8, y + row / 2 + 4, shown, dim=True),
        ]
    return _svg(WIDTH, row * len(values), parts)


def _columns(values: Mapping[str, int], color: str) -> str:
    height, foot = 230, 24
    largest = max(values.values(), default=0) or 1
    step = WIDTH / max(len(values), 1)
    parts = [f'<line class="axis" x1="0" x2="{WIDTH}" y1="{height}" y2="{height}"/>']
    for number, (name, value) in enumerate(values.items()):
        length = (height - 24) * value / largest
        middle = step * (number + 0.5)
        parts += [
            _rect(step * number + 4, height - length, step - 8, length, color, f"{name}: {value:,}"),
            _text(middle, height - length - 6, f"{value:,}", anchor="middle", dim=True),
            _text(middle, height + 17, name, anchor="middle", dim=True),
        ]
    return _svg(WIDTH, height + foot, parts)


def _stacked(hours: Sequence[Mapping[str, int]]) -> str:
    width, height, foot = 1080, 220, 24
    largest = max((sum(hour.values()) for hour in hours), default=0) or 1
    step = width / max(len(hours), 1)
    parts = [f'<line class="axis" x1="0" x2="{width}" y1="{height}" y2="{height}"/>']
    for number, hour in enumerate(hours):
        top = float(height)
        for status in STATUSES:
            length = (height - 8) * hour.get(status, 0) / largest
            top -= length
            tip = f"{number:02}:00, {status}: {hour.get(status, 0):,}"
            parts.append(_rect(step * number + 3, top, step - 6, length, status, tip))
        parts.append(_text(step * (number + 0.5), height + 17, f"{number:02}", anchor="middle", dim=True))
    return _svg(width, height + foot, parts)


def _change(figures: Figures) -> str:
    """Two columns, before and after, and a band for everything that moved between them."""
    width, height, column, top = WIDTH, 230, 120, 22
    total = sum(figures.before.values()) or 1
    scale = (height - 3 * 6) / total
    right = width - column
    parts = [
        _text(column / 2, 12, "after day one", anchor="middle", dim=True),
        _text(right + column / 2, 12, "after day two", anchor="middle", dim=True),
    ]
    start, places = {}, {}
    for side, x, values in (("before", 0, figures.before), ("after", right, figures.after)):
        y = float(top)
        for status in STATUSES:
            length = values.get(status, 0) * scale
            start[side, status] = places[side, status] = y
            parts.append(_rect(x, y, column, length, status, f"{status}: {values.get(status, 0):,}"))
            if length >= 14:
                label = f"{status} {values.get(status, 0):,}"
                parts.append(
                    f'<text x="{x + column / 2:.1f}" y="{y + length / 2 + 4:.1f}" text-anchor="middle" '
                    f'style="fill:#fff;font-size:11px">{escape(label)}</text>'
                )
            y += length + 6
    for origin in STATUSES:
        for target in STATUSES:
            count = figures.moved.get((origin, target), 0)
            thick = count * scale
            left_y, right_y = places["before", origin], places["after", target]
            places["before", origin] += thick
            places["after", target] += thick
            if count:
                a, b, middle = column + 2, right - 2, width / 2
                path = (
                    f"M{a} {left_y:.1f} C{middle} {left_y:.1f} {middle} {right_y:.1f} {b} {right_y:.1f} "
                    f"V{right_y + thick:.1f} C{middle} {right_y + thick:.1f} {middle} {left_y + thick:.1f} "
                    f"{a} {left_y + thick:.1f}Z"
                )
                tip = f"{origin} → {target}: {count:,}"
                parts.append(
                    f'<path d="{path}" fill="var(--{target})" opacity="{0.25 if origin == target else 0.7}">'
                    f"<title>{escape(tip)}</title></path>"
                )
    return _svg(width, top + height, parts)


def _legend() -> str:
    marks = "".join(f'<span><i style="background:var(--{status})"></i>{status}</span>' for status in STATUSES)
    return f'<div class="legend">{marks}</div>'
