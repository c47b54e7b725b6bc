"""Where the recipes and the quickstart's start lie: in the checkout, or inside the installed package."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
ROOT = _PACKAGE if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent
"""Folder that holds `configs` and `data/quickstart`."""


def found(path: str) -> str:
    """A relative path from a recipe; where it leads nowhere, the shipped file or folder of that name, if there is one."""
    shipped = ROOT / path
    return str(shipped) if not Path(path).exists() and shipped.exists() else path
