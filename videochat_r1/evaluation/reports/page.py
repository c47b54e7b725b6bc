"""A report in one HTML file: page, sections, tables and examples; its pictures come from `evaluation.reports.drawing`.

Nothing is loaded from outside and nothing runs, so a report opens anywhere and offline. Every text is escaped: what a model
wrote cannot become markup.
"""

from collections.abc import Container, Mapping, Sequence

from videochat_r1.evaluation.reports.drawing import escaped

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #1d2127; --soft: #667080; --line: #d9dde3; --panel: #f5f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #15181c; --text: #e6e8eb; --soft: #98a1ad; --line: #343a43; --panel: #1d2126; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1080px; padding: 2rem 1.25rem 4rem; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.6rem 0 .4rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; } p { margin: .3rem 0 .8rem; max-width: 46rem; } .soft { color: var(--soft); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .55rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } th.text, td.text { text-align: left; } tr.strong td { font-weight: 650; }
td.text:not(:first-child) { white-space: normal; overflow-wrap: break-word; }
.grid { display: flex; flex-wrap: wrap; gap: 1rem; }
.card { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: .9rem 1.1rem; flex: 1 1 15rem; }
.card .value { font-size: 1.6rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.example { border-top: 1px solid var(--line); padding: .9rem 0; } .example p { margin: .1rem 0 .5rem; max-width: none; }
.key { display: inline-flex; align-items: center; gap: .35rem; margin-right: 1rem; white-space: nowrap; }
.key i { width: .8rem; height: .8rem; border-radius: 3px; display: inline-block; }
code { font: .86em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
svg { display: block; max-width: 100%; height: auto; } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .axis { stroke: var(--line); stroke-width: 1; } svg .frame { image-rendering: auto; }
"""


def page(title: str, subtitle: str, sections: Sequence[str]) -> str:
    """The whole file."""
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        f'<h1>{escaped(title)}</h1>\n<p class="soft">{escaped(subtitle)}</p>\n{body}\n</body></html>\n'
    )


def section(heading: str, body: str, note: str = "") -> str:
    """A heading, perhaps a sentence, and markup made by the functions below."""
    return f"<h2>{escaped(heading)}</h2>\n" + (f"<p>{escaped(note)}</p>\n" if note else "") + body


def paragraph(text: str, *, soft: bool = False) -> str:
    """A paragraph of text."""
    return f'<p class="soft">{escaped(text)}</p>' if soft else f"<p>{escaped(text)}</p>"


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text_columns: Container[int] = (0,),
    strong: Sequence[int] = (),
) -> str:
    """A table whose `text_columns` are left-aligned and, but for the first column, wrapped; `strong` rows stand out."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=text' if index in text_columns else ''}>{escaped(cell)}</{tag}>"
            for index, cell in enumerate(row)
        )

    body = "".join(
        f"<tr{' class=strong' if index in strong else ''}>{cells('td', row)}</tr>\n" for index, row in enumerate(rows)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{cells("th", header)}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    )


def cards(values: Sequence[tuple[str, str, str]]) -> str:
    """Panels of (label, large value, what it means)."""
    return (
        '<div class="grid">'
        + "".join(
            f'<div class="card"><div class="soft">{escaped(label)}</div><div class="value">{escaped(value)}</div>'
            f'<div class="soft">{escaped(meaning)}</div></div>'
            for label, value, meaning in values
        )
        + "</div>"
    )


def grid(items: Sequence[str]) -> str:
    """Pieces side by side where there is room."""
    return '<div class="grid">' + "".join(f"<div>{item}</div>" for item in items) + "</div>"


def example(caption: str, details: Mapping[str, str], pictures: Sequence[str]) -> str:
    """One sample: a caption, named texts (what models wrote), and its pictures."""
    lines = "".join(
        f'<div><span class="soft">{escaped(k)}:</span> <code>{escaped(v)}</code></div>' for k, v in details.items()
    )
    return f'<div class="example"><p><strong>{escaped(caption)}</strong></p>{"".join(pictures)}{lines}</div>'
