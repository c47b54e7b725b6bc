"""From completions to a scored benchmark, without a model."""
