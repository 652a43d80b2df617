"""Sections -> one HTML document: pictures inside, nothing loaded, every text escaped."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from training.reporting.tables import Table


@dataclass(frozen=True)
class Note:
    """A paragraph beside a table or picture; warning: one that must not be missed."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Picture:
    """file: its name in the output folder. alternative: what it shows, for those who cannot see it."""

    file: str
    png: bytes
    alternative: str


@dataclass(frozen=True)
class Grid:
    """A table with its header first. title: a small heading above it. prose: its cells are sentences, which wrap."""

    rows: Table
    title: str = ""
    prose: bool = False


@dataclass(frozen=True)
class Key:
    """What the colours of a picture mean: (colour as ``#RRGGBB``, name), for names that no picture can spell."""

    title: str
    colours: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Fold:
    """What opens on a click: the name in bold, the facts behind it, a path, and the tables below."""

    name: str
    facts: str
    path: str
    grids: Sequence[Grid]


Part = Note | Picture | Grid | Key | Fold


@dataclass(frozen=True)
class Section:
    """Parts under a heading, from top to bottom."""

    title: str
    parts: Sequence[Part]

    @property
    def pictures(self) -> list[Picture]:
        return [part for part in self.parts if isinstance(part, Picture)]


def html_page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole document. title, lead: what stands above the sections."""
    contents = "".join(
        f'<li><a href="#s{number}">{escape(section.title)}</a></li>' for number, section in enumerate(sections)
    )
    body = "\n".join(
        f'<section>\n<h2 id="s{number}">{escape(section.title)}</h2>\n{"".join(map(_part, section.parts))}</section>'
        for number, section in enumerate(sections)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}: learning curves</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
<nav><ul>{contents}</ul></nav>
{body}
</main>
</body>
</html>
"""


def _part(part: Part) -> str:
    if isinstance(part, Note):
        return f'<p class="{"warning" if part.warning else "note"}">{escape(part.text)}</p>\n'
    if isinstance(part, Picture):
        image = base64.b64encode(part.png).decode("ascii")
        return f'<figure><img src="data:image/png;base64,{image}" alt="{escape(part.alternative)}"></figure>\n'
    if isinstance(part, Grid):
        return _grid(part)
    if isinstance(part, Key):
        return _key(part)
    path = f" <code>{escape(part.path)}</code>" if part.path else ""
    summary = f"<strong>{escape(part.name)}</strong> {escape(part.facts)}{path}"
    return f"<details><summary>{summary}</summary>\n{''.join(map(_grid, part.grids))}</details>\n"


def _grid(grid: Grid) -> str:
    title = f"<h3>{escape(grid.title)}</h3>\n" if grid.title else ""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in grid.rows[0])
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in grid.rows[1:])
    kind = "table prose" if grid.prose else "table"
    inside = f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
    return f'{title}<div class="{kind}"><table>\n{inside}\n</table></div>\n'


def _key(key: Key) -> str:
    rows = "\n".join(
        f'<tr><td class="colour" style="background: {escape(colour)}"></td><td>{escape(name)}</td></tr>'
        for colour, name in key.colours
    )
    return f'<h3>{escape(key.title)}</h3>\n<div class="key"><table>\n<tbody>\n{rows}\n</tbody>\n</table></div>\n'


_STYLE = """
:root { color-scheme: light; --ink: #222; --soft: #595959; --line: #e3e3e3; }
body { margin: 0; background: #f6f6f4; color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 74rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { margin: 0; font-size: 1.8rem; } h2 { margin: 2.75rem 0 .75rem; font-size: 1.2rem; }
h3 { margin: 1.25rem 0 .35rem; font-size: .85rem; color: var(--soft); }
nav ul { margin: 0; padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; }
nav { font-size: .85rem; } a { color: #0072b2; }
.lead, .note { color: var(--soft); margin: .25rem 0 1.25rem; } .note { font-size: .85rem; margin: .5rem 0 .9rem; }
.warning { border-left: 4px solid #d55e00; padding: .5rem .75rem; background: #fff; overflow-wrap: anywhere; }
figure { margin: 0 0 1rem; background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: .5rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.table { overflow-x: auto; background: #fff; border: 1px solid var(--line); border-radius: 8px; margin: 0 0 .75rem; }
table { width: 100%; border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .5rem; text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; border-bottom: 1px solid var(--line); white-space: normal; }
th:first-child, td:first-child { text-align: left; } tbody tr + tr td { border-top: 1px solid #f0f0f0; }
.prose th, .prose td { text-align: left; white-space: normal; vertical-align: top; overflow-wrap: anywhere; }
.prose td { min-width: 5.5rem; max-width: 24rem; }
.key table { width: auto; margin: 0 0 .75rem; } .key td { text-align: left; white-space: normal; }
.key .colour { width: 1.5rem; border-radius: 4px; }
details { margin: .5rem 0; } summary { cursor: pointer; padding: .35rem 0; overflow-wrap: anywhere; }
code { color: var(--soft); font-size: .85em; margin-left: .5rem; }
"""
