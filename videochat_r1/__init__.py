"""Reinforcement fine-tuning of video language models on space and time: VideoChat-R1 (arXiv 2504.06958)."""

__version__ = "0.1.0"
