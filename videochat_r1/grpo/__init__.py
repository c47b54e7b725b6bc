"""GRPO on video: options, trainer, and log-probabilities that compute each prompt once per group."""
