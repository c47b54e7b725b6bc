"""What GRPO and SFT share: the order of samples, reading ahead, checkpoints that survive a kill."""
