"""Clue-perception: a second look at the parts of a video that an answer names (paper 3.3, Algorithm 1)."""
