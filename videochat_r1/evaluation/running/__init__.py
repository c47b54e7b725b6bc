"""Whole benchmarks with a model: shards, folders that go on after a kill, and lmms-eval's side."""
