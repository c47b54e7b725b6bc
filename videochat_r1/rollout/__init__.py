"""Engines that draw a group of completions for a prompt."""
