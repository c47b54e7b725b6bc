"""How error messages list many things."""

from collections.abc import Sequence


def first_ten(names: Sequence[str]) -> str:
    """The first ten of the names and how many there are in all."""
    shown = ", ".join(names[:10])
    return f"{shown}, ... ({len(names):,} in all)" if len(names) > 10 else f"{shown} ({len(names)})"
