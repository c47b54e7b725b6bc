"""What is scored without looking at a video."""
