"""JSON that every reader takes, of whatever models, users and judges wrote."""

import json
import math
from typing import Any

from videochat_r1.text import whole


def strict_json(value: Any, *, indent: int | None = None) -> str:
    """The value as JSON in whole characters; null stands for a number that is not finite, at any depth."""
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return whole(text)


def finite(value: Any) -> Any:
    """The JSON value with None for every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return [finite(item) for item in value] if isinstance(value, list | tuple) else value
