"""Overlap of predicted and true spans as the grounding benchmarks' authors compute it: no clipping, ties reach a threshold."""

from collections.abc import Sequence

from videochat_r1.geometry import Span, span_iou, span_set_iou

RECALL_THRESHOLDS = (0.3, 0.5, 0.7)
_NEXTGQA_THRESHOLDS = (0.3, 0.5)


def moment_scores(predicted: Span | None, truth: Span) -> dict[str, float]:
    """mIoU and R1@0.3, 0.5, 0.7 (IoU >= threshold) of one query; all 0.0 for None.

    The IoU is that of TALL (Gao et al. 2017) and of the paper's evaluation: what reaches past the video counts against it.
    """
    iou = 0.0 if predicted is None else span_iou(predicted, truth)
    return {"mIoU": iou, **{f"R1@{threshold}": float(iou >= threshold) for threshold in RECALL_THRESHOLDS}}


def overlap_and_precision(span: Span, truth: Span) -> tuple[float, float]:
    """IoU and IoP (intersection over prediction) of one predicted and one true span (NExT-GQA, `eval_ground.py`).

    A point inside the true span, edges included, has IoU 0 and IoP 1. A reversed prediction has neither.
    """
    if span.start == span.end:
        return 0.0, float(truth.start <= span.start <= truth.end)
    intersection = min(span.end, truth.end) - max(span.start, truth.start)
    if intersection <= 0.0:
        return 0.0, 0.0
    hull = max(span.end, truth.end) - min(span.start, truth.start)
    return intersection / hull, intersection / (span.end - span.start)


def nextgqa_scores(predicted: Sequence[Span], truths: Sequence[Span], *, correct: bool) -> dict[str, float | None]:
    """The metrics of NExT-GQA (Xiao et al. 2024) for one question, and the paper's IoU of the unions.

    The official metrics know one predicted span: of several, the first counts. It is held against every true span; the best
    IoU and the best IoP count, each by itself. Acc@GQA asks for the right answer and IoP >= 0.5.

    Args:
        predicted: the clue spans of the answer, in its order.
        truths: the annotated spans; none of a question whose clue nobody knows, which has None in every metric.
        correct: whether the chosen option is right.
    """
    pairs = [overlap_and_precision(predicted[0], truth) for truth in truths] if predicted else []
    iou = max((pair[0] for pair in pairs), default=0.0)
    iop = max((pair[1] for pair in pairs), default=0.0)
    scores = {
        "Acc@GQA": float(correct and iop >= 0.5),
        "mIoP": iop,
        **{f"IoP@{threshold}": float(iop >= threshold) for threshold in _NEXTGQA_THRESHOLDS},
        "mIoU": iou,
        **{f"IoU@{threshold}": float(iou >= threshold) for threshold in _NEXTGQA_THRESHOLDS},
        "union_mIoU": span_set_iou(predicted, truths),
    }
    return {name: score if truths else None for name, score in scores.items()}
