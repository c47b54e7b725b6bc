"""Reads model text: the one parser that rewards, metrics and reports share. Total functions, linear in the text.

Nothing here raises on any string. `tags` finds the parts of a completion, the other modules read what stands in them.
"""

from videochat_r1.parsing.boxes import is_box_list, parse_boxes
from videochat_r1.parsing.choices import (
    official_letter,
    option_texts,
    parse_choice,
    parse_letter,
    same_option,
    same_text,
)
from videochat_r1.parsing.spans import is_span_list, parse_spans
from videochat_r1.parsing.tags import answer_text, strict_parts, tagged_texts, write_parts

__all__ = [
    "answer_text",
    "is_box_list",
    "is_span_list",
    "official_letter",
    "option_texts",
    "parse_boxes",
    "parse_choice",
    "parse_letter",
    "parse_spans",
    "same_option",
    "same_text",
    "strict_parts",
    "tagged_texts",
    "write_parts",
]
