"""The page as text: its shell with the map of its modules, for a server or as one file that needs none."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from videochat_r1.evaluation.reports.page import look

MODULES = (
    "answers",
    "charts",
    "dom",
    "evaluation",
    "format",
    "group",
    "groups",
    "kinds",
    "main",
    "player",
    "saw",
    "source",
    "timeline",
    "tokens",
    "training",
)
_SHELL = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
{style}
<script type="importmap">{importmap}</script>
{data}</head>
<body><noscript>This page needs JavaScript, all of which comes with it.</noscript>
<script type="module" src="{main}"></script></body></html>
"""


@cache
def module_text(name: str) -> str:
    """One of `MODULES`."""
    return files(__package__).joinpath("page", f"{name}.js").read_text(encoding="utf-8")


@cache
def style_text() -> str:
    """All of the page's style."""
    return look() + files(__package__).joinpath("page", "window.css").read_text(encoding="utf-8")


@cache
def served_page() -> tuple[str, str]:
    """The page that a server gives out, and the Content-Security-Policy under which it works.

    All that runs are the modules of this package; texts of models, files and annotations are never made into markup, and could
    neither run nor reach another host if they were.
    """
    importmap = json.dumps({"imports": {f"window/{name}": f"/page/{name}.js" for name in MODULES}})
    text = _SHELL.format(
        title="videochat-r1",
        style='<link rel="stylesheet" href="/page/window.css">',
        importmap=importmap,
        data="",
        main="/page/main.js",
    )
    policy = {
        "default-src": "'none'",
        "script-src": f"'self' '{_hash(importmap)}'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "media-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    return text, "; ".join(f"{name} {value}" for name, value in policy.items())


def exported_page(title: str, data: Mapping[str, Any]) -> str:
    """The page as one file that shows `data` instead of asking a server; it may load nothing from anywhere."""
    imports = {f"window/{name}": _data_uri("text/javascript", module_text(name)) for name in MODULES}
    policy = "default-src 'none'; script-src 'unsafe-inline' data:; style-src 'unsafe-inline'; img-src data:; media-src data:"
    # No text of the data can end the element that holds it.
    held = json.dumps(data).replace("<", "\\u003c")
    return _SHELL.format(
        title=html.escape(title),
        style=f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{style_text()}</style>',
        importmap=json.dumps({"imports": imports}),
        data=f'<script type="application/json" id="data">{held}</script>\n',
        main=imports["window/main"],
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data_uri(kind: str, text: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"
