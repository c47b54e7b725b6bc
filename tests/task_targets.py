"""What the tests of all tasks ask: of every task a true answer, and another one to the same question, in public JSON form.

A new task needs an entry here; nothing else in tests/ has to know it.
"""

from typing import Any

TARGETS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "temporal_grounding": (
        {"span": [5.2, 10.4], "duration": 30.0},
        {"span": [1.0, 2.0], "duration": 30.0},
    ),
    "tracking": (
        {"boxes": [[i / 10, 0.2, (i + 2) / 10, 0.6] for i in range(8)]},
        {"boxes": [[0.0, 0.2, 0.2, 0.6]] * 8},  # the first box is given
    ),
    "multi_choice_qa": (
        {"options": ["share it", "sit down", "unwrap it", "play"], "answer": "C"},
        {"options": ["share it", "sit down", "unwrap it", "play"], "answer": "A"},
    ),
    "grounded_qa": (
        {
            "options": ["share it", "sit down", "unwrap it"],
            "answer": "C",
            "spans": [[5.0, 10.0], [12.0, 13.5]],
            "duration": 40.0,
        },
        {"options": ["share it", "sit down", "unwrap it"], "answer": "A", "spans": [[1.0, 2.0]], "duration": 40.0},
    ),
    "quality_assessment": (
        {"choices": ["low quality", "high quality"], "answer": "high quality"},
        {"choices": ["low quality", "high quality"], "answer": "low quality"},
    ),
    "captioning": (
        {"caption": "A man opens a door. He walks in."},
        {"caption": "A dog sleeps.", "events": ["A dog sleeps."]},
    ),
    "numerical_qa": ({"answer": "12.50"}, {"answer": "1,000 kg"}),
    "free_form_qa": ({"answer": "A red car turns left."}, {"answer": "dogs"}),
    "text_recognition": ({"answer": "EXIT 12\nMain St."}, {"answer": "出口"}),
    "regression": ({"answer": 3.2}, {"answer": 0.0}),
}
