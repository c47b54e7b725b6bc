"""The page as text: its shell with the map of its modules, for a server or as one file that needs none."""

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Page:
    """A page made of modules and styles of packages of this project, each in its folder `page`.

    Args:
        title: until the page itself says another.
        modules: name, as the modules import it after `window/`, -> package that has it.
        main: the module that draws the page.
        styles: (package, file) of each, in order, after what all pages and reports look like.
    """

    title: str
    modules: Mapping[str, str]
    main: str
    styles: tuple[tuple[str, str], ...]

    def module(self, name: str) -> str:
        """The text of one of the modules."""
        return _file_text(self.modules[name], f"{name}.js")

    def style(self) -> str:
        """All of the page's style."""
        return look() + "".join(_file_text(*style) for style in self.styles)

    def served(self) -> str:
        """The page that a server gives out."""
        return _SHELL.format(
            title=self.title,
            style='<link rel="stylesheet" href="/page/window.css">',
            importmap=self._importmap(),
            data="",
            main=f"/page/{self.main}.js",
        )

    def policy(self) -> str:
        """The Content-Security-Policy under which that works.

        All that runs are the modules of this package; texts of models, files and annotations are never made into markup, and could
        neither run nor reach another host if they were.
        """
        policy = {
            "default-src": "'none'",
            "script-src": f"'self' '{_hash(self._importmap())}'",
            "style-src": "'self'",
            "img-src": "'self' data:",
            "media-src": "'self'",
            "connect-src": "'self'",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
            "require-trusted-types-for": "'script'",
        }
        return "; ".join(f"{name} {value}" for name, value in policy.items())

    def exported(self, title: str, data: Mapping[str, Any]) -> str:
        """The page as one file that shows `data` instead of asking a server; it may load nothing from anywhere."""
        imports = {f"window/{name}": _data_uri("text/javascript", self.module(name)) for name in self.modules}
        policy = "default-src 'none'; script-src 'unsafe-inline' data:; style-src 'unsafe-inline'; img-src data:; media-src data:"
        # No text of the data can end the element that holds it.
        held = json.dumps(data).replace("<", "\\u003c")
        return _SHELL.format(
            title=html.escape(title),
            style=f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{self.style()}</style>',
            importmap=json.dumps({"imports": imports}),
            data=f'<script type="application/json" id="data">{held}</script>\n',
            main=imports[f"window/{self.main}"],
        )

    def _importmap(self) -> str:
        return json.dumps({"imports": {f"window/{name}": f"/page/{name}.js" for name in self.modules}})


VIEW = Page("videochat-r1", {name: __package__ for name in MODULES}, "main", ((__package__, "window.css"),))
"""The page of `videochat-r1 view`."""


@cache
def _file_text(package: str, name: str) -> str:
    return files(package).joinpath("page", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data_uri(kind: str, text: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"
