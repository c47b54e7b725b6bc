import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from tests.task_targets import TARGETS
from videochat_r1.datasets.manifest import read_manifest
from videochat_r1.datasets.synthetic import write_corpus
from videochat_r1.errors import DataError
from videochat_r1.evaluation.answering.harness import evaluate
from videochat_r1.evaluation.baselines.blind import best_blind, blind_answers, constant_spans, mean_metrics
from videochat_r1.evaluation.metrics.bootstrap import bootstrap_interval, by_sample, mean_scores, paired_interval
from videochat_r1.evaluation.metrics.score_table import ScoreTable
from videochat_r1.evaluation.reports import drawing, page
from videochat_r1.geometry import Box, Span
from videochat_r1.modeling.load import eos_token_ids, load_config, load_model, load_processor, vision_token_ids
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.modeling.tiny import build_tiny
from videochat_r1.rollout.base import Rollout, SamplingSettings
from videochat_r1.rollout.ended import Ended
from videochat_r1.rollout.transformers_engine import TransformersEngine
from videochat_r1.sample import (
    BoxesTarget,
    ChoiceTarget,
    GroundedChoiceTarget,
    LabelTarget,
    NumberTarget,
    Sample,
    SpanTarget,
    TextTarget,
    Video,
)
from videochat_r1.tasks import TASKS
from videochat_r1.video.frames import VideoBudget

# --- metrics --------------------------------------------------------------------------------------------------------


def rows(task, values):
    return [{"id": f"{task}{index}", "task": task, "scores": scores} for index, scores in enumerate(values)]


def test_means_are_per_task_and_count_failures():
    scored = rows("a", [{"m": 1.0, "n": 0.5}, {"m": 0.0, "n": 0.0}]) + rows("b", [{"k": 0.25}])
    assert mean_scores(scored) == {"a": {"m": 0.5, "n": 0.25}, "b": {"k": 0.25}}


def test_rows_of_a_task_need_the_same_metrics():
    with pytest.raises(ValueError, match=r"'a1'.*\['n'\].*\['m'\]"):
        mean_scores(rows("a", [{"m": 1.0}, {"n": 1.0}]))


BOX = Box(0.1, 0.1, 0.5, 0.5)


@pytest.mark.parametrize(
    ("task", "known", "unknown", "about_it"),
    [
        (
            "grounded_qa",
            GroundedChoiceTarget(("red", "blue"), "B", (Span(0.0, 4.0),), 10.0),
            GroundedChoiceTarget(("red", "blue"), "B", (), 0.0),
            {"mIoU"},
        ),
        (
            "tracking",
            BoxesTarget((BOX, BOX)),
            BoxesTarget((BOX,)),
            {"overlap_without_given", "R@0.5_without_given", "R@0.7_without_given"},
        ),
    ],
)
def test_a_truth_that_nobody_knows_counts_in_no_mean(task, known, unknown, about_it):
    gold = TASKS[task].parse(TASKS[task].gold(known, thinking=False), known)
    scores = [TASKS[task].scores(gold, known), TASKS[task].scores(gold, unknown), TASKS[task].scores(None, unknown)]
    assert {name for name, value in scores[1].items() if value is None} == about_it
    scored = rows(task, scores)
    for means in (mean_scores(scored)[task], ScoreTable.of(scores).means()):
        assert all(means[name] == (1.0 if name in about_it else pytest.approx(2 / 3)) for name in scores[0])
    assert all(by_sample(scored, task, name) == {f"{task}0": 1.0} for name in about_it)
    assert set(mean_scores(scored[1:])[task]) == set(scores[0]) - about_it
    assert {name for name, mean in ScoreTable.of(scores[1:]).means().items() if mean is None} == about_it
    samples = [Sample("1", task, Video(path="v.mp4"), "which?", each) for each in (known, unknown)]
    assert set(best_blind(samples[1:], samples[1:]).metrics) == set(scores[0]) - about_it
    if task == "grounded_qa":
        # Tracks have to be equally long; clues are chosen on the questions that have some.
        assert set(best_blind(samples, samples).metrics) == set(scores[0])


def test_interval_of_equal_values_is_a_point():
    assert bootstrap_interval([0.25] * 10) == (0.25, 0.25)


def test_interval_has_the_width_of_the_central_limit():
    values = np.random.default_rng(0).normal(0.3, 1.0, 400)
    low, high = bootstrap_interval(values.tolist())
    expected = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - expected, abs=0.01)
    assert high == pytest.approx(values.mean() + expected, abs=0.01)


def test_interval_does_not_depend_on_blocks(monkeypatch):
    values = np.random.default_rng(1).random(50).tolist()
    whole = bootstrap_interval(values, seed=3, num_resamples=200)
    monkeypatch.setattr("videochat_r1.evaluation.metrics.bootstrap._BLOCK_ENTRIES", 50 * 7)
    assert bootstrap_interval(values, seed=3, num_resamples=200) == whole


def test_paired_interval_uses_the_pairs():
    before = {str(index): float(index) for index in range(100)}
    after = {key: value + 0.5 for key, value in reversed(before.items())}
    assert paired_interval(after, before) == (0.5, 0.5)


def test_paired_interval_refuses_different_samples():
    with pytest.raises(ValueError, match=r"2 samples .*\['a', 'b'\]"):
        paired_interval({"a": 1.0, "c": 1.0}, {"b": 1.0, "c": 1.0})


def test_by_sample_picks_task_and_metric():
    assert by_sample([*rows("a", [{"m": 1.0}]), *rows("b", [{"m": 2.0}])], "b", "m") == {"b0": 2.0}


# --- blind answers --------------------------------------------------------------------------------------------------


def sample(task, target, query="q", index=0):
    return Sample(id=f"{task}{index}", task=task, media=Video(path="v.mp4"), query=query, target=target)


def span_sample(start, end, duration=10.0):
    return sample("temporal_grounding", SpanTarget(Span(start, end), duration))


def test_constant_spans_by_hand():
    # In fractions the same place in every video; in seconds the second one is elsewhere.
    truths, durations = [[Span(2.0, 4.0)], [Span(4.0, 8.0)]], [10.0, 20.0]
    relative, absolute = constant_spans(truths, durations)
    assert relative == pytest.approx(Span(0.2, 0.4))
    # On a grid of 1 s: 3-8 or 4-8 s, say, against 2-4 and 4-8.
    best = max(
        (Span(float(a), float(b)) for a in range(20) for b in range(a + 1, 21)),
        key=lambda s: sum(iou(s.clipped(d), t[0]) for t, d in zip(truths, durations, strict=True)),
    )
    assert mean_iou(absolute, truths, durations) == pytest.approx(mean_iou(best, truths, durations))


def iou(a, b):
    overlap = max(0.0, min(a.end, b.end) - max(a.start, b.start))
    return overlap / (a.length + b.length - overlap)


def mean_iou(span, truths, durations):
    return np.mean([iou(span.clipped(d), t[0]) for t, d in zip(truths, durations, strict=True)])


def test_blind_grounding_is_chosen_on_train_and_scored_on_eval():
    train = [span_sample(2.0, 4.0), span_sample(2.0, 4.0)]
    result = best_blind(train, [span_sample(2.0, 6.0), span_sample(5.0, 6.0)])
    assert result.metrics["mIoU"] == pytest.approx((0.5 + 0.0) / 2)
    assert result.candidates["whole video"] == pytest.approx((0.4 + 0.1) / 2)


def test_blind_tracking_finds_the_expected_motion():
    # Every object moves right by 0.05 a frame: the affine answer is exact, the copied box is not.
    def moving(x, y):
        return BoxesTarget(tuple(Box(x + 0.05 * i, y, x + 0.05 * i + 0.2, y + 0.3) for i in range(8)))

    generator = np.random.default_rng(0)
    train = [sample("tracking", moving(*generator.uniform(0, 0.4, 2))) for _ in range(20)]
    result = best_blind(train, [sample("tracking", moving(0.1, 0.3))])
    assert result.name == "the boxes expected from the given one"
    assert result.metrics["overlap"] == pytest.approx(1.0, abs=1e-6)
    copied = [max(0.0, 0.2 - 0.05 * i) / (0.2 + min(0.05 * i, 0.2)) for i in range(8)]
    assert result.candidates["the given box, copied"] == pytest.approx(np.mean(copied))


def test_blind_choice_uses_the_question():
    options = ("red", "blue")
    train = [
        *[sample("multi_choice_qa", ChoiceTarget(options, "A"), "sky?", i) for i in range(3)],
        *[sample("multi_choice_qa", ChoiceTarget(options, "B"), "sea?", i) for i in range(2)],
    ]
    swapped = ("blue", "red")
    result = best_blind(train, [sample("multi_choice_qa", ChoiceTarget(swapped, "A"), "sea?")])
    assert result.name == "the most frequent answer to the same question"
    assert result.metrics["accuracy"] == 1.0
    assert result.candidates == {
        "always A": 1.0,
        "the most frequent answer among the options": 0.0,
        "the most frequent answer to the same question": 1.0,
    }


def test_blind_grounded_choice_answers_both_parts():
    target = GroundedChoiceTarget(("x", "y"), "B", (Span(0.0, 5.0),), 10.0)
    result = best_blind([sample("grounded_qa", target)], [sample("grounded_qa", target)])
    assert (result.metrics["accuracy"], result.metrics["mIoU"]) == (1.0, pytest.approx(1.0))


def test_blind_label_is_the_majority():
    labels = ("high quality", "low quality")
    train = [sample("quality_assessment", LabelTarget(labels, a)) for a in (labels[1], labels[1], labels[0])]
    evaluated = [sample("quality_assessment", LabelTarget(labels, a)) for a in labels]
    assert best_blind(train, evaluated).metrics["accuracy"] == 0.5


def test_blind_numbers_and_texts_are_the_usual_ones():
    def number(value, query):
        return sample("numerical_qa", TASKS["numerical_qa"].target_from_json({"answer": value}), query)

    train = [
        number(value, query) for value, query in ((2, "dogs?"), (2, "dogs?"), (4, "cats?"), (5, "cats?"), (9, "cats?"))
    ]
    result = best_blind(train, [number(2, "dogs?"), number(4, "birds?")])
    assert result.candidates == {
        "always 2.0": 0.5,
        "the most frequent answer to the same question": 0.5,
        "always 4, the middle": 0.5,
        "the middle of the answers to the same question": 1.0,
    }
    texts = [
        sample("free_form_qa", TASKS["free_form_qa"].target_from_json({"answer": text}))
        for text in ("a dog", "a dog", "a cat")
    ]
    assert best_blind(texts, texts[:1]).metrics["ROUGE"] == 1.0


def test_every_task_has_blind_answers_that_its_scores_accept():
    targets = {name: TASKS[name].target_from_json(truth) for name, (truth, _) in TARGETS.items()}
    # What a caption is worth is for a judge to say, and of a kind of truth that is new nothing is known.
    known = (SpanTarget, BoxesTarget, ChoiceTarget, GroundedChoiceTarget, LabelTarget, NumberTarget, TextTarget)
    targets = {name: target for name, target in targets.items() if isinstance(target, known)}
    assert len(targets) >= len(known)
    for task, target in targets.items():
        one = [sample(task, target)]
        for candidate in blind_answers(one):
            assert all(0.0 <= value <= 1.0 for value in mean_metrics(candidate.answer, one).values())


def test_blind_refuses_mixed_tasks():
    with pytest.raises(DataError, match="one task"):
        best_blind([span_sample(1, 2)], [sample("multi_choice_qa", ChoiceTarget(("a",), "A"))])


# --- harness --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Samples with real videos, a model and its prompt builder."""
    folder = tmp_path_factory.mktemp("harness")
    write_corpus(folder / "data", num_train=1, num_eval=3, progress=False)
    build_tiny(folder / "model", hidden=64, layers=2, vision_hidden=32)
    processor = load_processor(folder / "model")
    budget = VideoBudget(max_pixels=28 * 28, min_pixels=28 * 28, backend="pyav", isolation="none")
    builder = PromptBuilder(processor, load_config(folder / "model"), budget)
    model = load_model(folder / "model", dtype=torch.float32)
    settings = SamplingSettings(
        max_new_tokens=6,
        temperature=0.0,
        eos_token_ids=eos_token_ids(model, processor),
        suppressed_token_ids=vision_token_ids(processor),
    )
    return read_manifest(folder / "data" / "eval.jsonl", folder / "data"), builder, model, settings


class Parrot:
    """An engine that knows the answers: the gold text of every sample, found by its prompt and video."""

    def __init__(self, samples, builder):
        tokenizer = builder.processor.tokenizer
        self.answers = {
            self.key(builder.build(s)): tokenizer(TASKS[s.task].gold(s.target, thinking=False))["input_ids"]
            for s in samples
        }
        self.eos = tokenizer.eos_token_id

    @staticmethod
    def key(prompt):
        return prompt.text, prompt.media[0].patches.sum().item()

    def generate(self, prompts, *, num_generations, settings, noise_seeds=None):
        assert num_generations == 1
        return [[Rollout([*self.answers[self.key(p)], self.eos], [], Ended.STOP)] for p in prompts]


def test_gold_answers_score_one_and_rows_keep_the_order(setting, tmp_path):
    samples, builder, _, settings = setting
    path = tmp_path / "rows.jsonl"
    engine = Parrot(samples, builder)
    made = evaluate(
        engine, builder, builder.processor.tokenizer, samples, settings, batch_size=2, output=path, progress=False
    )
    assert [row["id"] for row in made] == [s.id for s in samples]
    assert all(row["scores"][TASKS[row["task"]].headline] == pytest.approx(1.0) for row in made)
    assert made[0]["completion"] == TASKS[samples[0].task].gold(samples[0].target, thinking=False)
    written = {row["id"]: row for row in map(json.loads, path.open())}
    assert written == {row["id"]: json.loads(json.dumps(row)) for row in made}


def test_a_video_that_cannot_be_read_scores_zero_with_its_reason(setting, tmp_path):
    samples, builder, _, settings = setting
    broken = Sample(
        id="broken",
        task=samples[0].task,
        media=Video(path=str(tmp_path / "no.mp4")),
        query="q",
        target=samples[0].target,
    )
    engine = Parrot(samples, builder)
    made = evaluate(engine, builder, builder.processor.tokenizer, [broken, samples[0]], settings, progress=False)
    assert "no.mp4" in made[0]["problem"]
    assert set(made[0]["scores"].values()) == {0.0}
    assert made[1]["problem"] is None and made[1]["scores"]["mIoU"] == pytest.approx(1.0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_answers_do_not_depend_on_batches_or_threads(setting, temperature):
    samples, builder, model, settings = setting
    tokenizer = builder.processor.tokenizer
    engine = TransformersEngine(model, tokenizer.pad_token_id)
    drawn = SamplingSettings(**{**{f: getattr(settings, f) for f in settings.__slots__}, "temperature": temperature})
    results = [
        evaluate(engine, builder, tokenizer, samples, drawn, batch_size=size, num_workers=threads, progress=False)
        for size, threads in ((1, 0), (4, 2), (9, 1))
    ]
    texts = [[row["completion"] for row in result] for result in results]
    assert texts[0] == texts[1] == texts[2]
    assert any(texts[0])


# --- report ---------------------------------------------------------------------------------------------------------


def svg_of(markup):
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", markup, re.DOTALL)]


def test_nothing_that_a_model_writes_becomes_markup():
    evil = '<script>alert("x")</script><img src=http://a.b/c>&'
    parts = [
        page.section(evil, page.table([evil], [[evil]]), evil),
        page.example(evil, {evil: evil}, [drawing.time_line([drawing.Lane(evil, "truth", [Span(0, 1)])], 2.0)]),
        page.cards([(evil, evil, evil)]),
        drawing.line_chart(evil, [drawing.Series(evil, "after", [(0, 0.1), (1, 0.9)])], x_label=evil),
        drawing.histogram(evil, {evil: [0.5]}, {evil: "before"}),
    ]
    text = page.page(evil, evil, parts)
    assert "<script" not in text and "<img" not in text
    assert text.count("&lt;script&gt;") >= 12


def test_pages_load_nothing():
    frames = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    text = page.page("t", "s", [drawing.film_strip(frames)])
    assert set(re.findall(r'(?:src|href)="([a-z]+):', text)) == {"data"}
    assert "@import" not in text and "http" not in text


def test_time_line_places_spans_in_proportion():
    (svg,) = svg_of(
        drawing.time_line(
            [drawing.Lane("a", "truth", [Span(1.0, 3.0), Span(9.0, 99.0)])], 10.0, width=210, label_width=10
        )
    )
    first, second = svg.findall("rect")
    assert (float(first.get("x")), float(first.get("width"))) == (30.0, 40.0)
    assert (float(second.get("x")), float(second.get("width"))) == (190.0, 20.0)


def test_film_strip_draws_boxes_on_their_frame():
    frames = np.zeros((4, 10, 10, 3), dtype=np.uint8)
    same = Box(0.5, 0.25, 1.0, 0.75)
    boxes = [[], [(same, "truth"), (same, "after")], [], []]
    (svg,) = svg_of(drawing.film_strip(frames, boxes, width=400, label_width=0, gap=0))
    assert [float(image.get("x")) for image in svg.findall("image")] == [0.0, 100.0, 200.0, 300.0]
    drawn = svg.findall("rect")
    for box in drawn:
        assert [float(box.get(key)) for key in ("x", "y", "width", "height")] == [150.0, 25.0, 50.0, 50.0]
    white, colours = "#ffffff", drawing.COLOURS
    assert [box.get("stroke") for box in drawn] == [white, white, colours["after"], colours["truth"]]
    assert [box.get("stroke-dasharray") is not None for box in drawn] == [False, False, False, True]


@pytest.mark.parametrize("duration", [1.0, 4.5, 7.0, 30.0, 599.0])
def test_no_label_of_a_time_axis_leaves_the_picture(duration):
    lane = drawing.Lane("truth", "truth", [])
    (line,) = svg_of(drawing.time_line([lane], duration, width=400, label_width=100))
    for text in line.findall("text")[1:]:
        x, wide = float(text.get("x")), 6.0 * len(text.text)
        left = {"start": x, "middle": x - wide / 2, "end": x - wide}[text.get("text-anchor")]
        assert left >= 99.0 and left + wide <= 401.0


def test_line_chart_clips_and_smooths():
    points = [(float(x), 5.0 if x == 2 else 0.0) for x in range(5)]
    (svg,) = svg_of(drawing.line_chart("t", [drawing.Series("s", "after", points, window=3)], x_label="x", high=5.0))
    raw, smooth = (
        [tuple(map(float, p.split(","))) for p in line.get("points").split()] for line in svg.findall("polyline")
    )
    floor, top = raw[0][1], raw[2][1]
    assert smooth[2][1] == pytest.approx(floor + (top - floor) / 3, abs=0.1)
    assert smooth[0][1] == floor


def test_histogram_shares_add_up():
    (svg,) = svg_of(drawing.histogram("t", {"a": [0.05, 0.05, 0.95, 1.0]}, {"a": "after"}))
    heights = [float(bar.get("height")) for bar in svg.findall("rect")]
    assert heights[0] == heights[9] == max(heights) and sum(h > 0 for h in heights) == 2
