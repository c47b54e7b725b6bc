"""Benchmarks: run a model over the samples, score, compare with trivial answers, report."""
