"""A bar chart as SVG: groups of horizontal bars on one scale."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

COLOURS: Final = ("#2f6f9f", "#8fb8d8", "#c26d3f", "#7a9a52", "#8a6fae", "#b3a14a")
LABEL, WIDTH, BAR, GAP, LEGEND = 150, 560, 14, 12, 24


def chart(values: Sequence[tuple[str, str, float]]) -> str:
    """One bar for each (group, series, value); groups and series in the order in which they first come."""
    groups = list(dict.fromkeys(group for group, _, _ in values))
    series = list(dict.fromkeys(name for _, name, _ in values))
    most = max((value for _, _, value in values), default=1.0) or 1.0
    parts, y = [], LEGEND + 10
    for number, name in enumerate(series):
        x = LABEL + number * WIDTH // max(1, len(series))
        parts.append(f'<rect x="{x}" y="6" width="10" height="10" fill="{COLOURS[number % len(COLOURS)]}"/>')
        parts.append(f'<text x="{x + 14}" y="15">{escape(name)}</text>')
    for group in groups:
        own = [(series.index(name), value) for each, name, value in values if each == group]
        parts.append(f'<text x="{LABEL - 8}" y="{y + len(own) * BAR / 2 + 4}" text-anchor="end">{escape(group)}</text>')
        for number, value in own:
            width = max(1.0, value / most * (WIDTH - 60))
            colour = COLOURS[number % len(COLOURS)]
            parts.append(f'<rect x="{LABEL}" y="{y}" width="{width:.1f}" height="{BAR - 2}" fill="{colour}"/>')
            parts.append(f'<text x="{LABEL + width + 4:.1f}" y="{y + BAR - 4}">{value:.2f}</text>')
            y += BAR
        y += GAP
    size = f'width="{LABEL + WIDTH}" height="{y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return "\n".join((head, *parts, "</svg>", ""))
