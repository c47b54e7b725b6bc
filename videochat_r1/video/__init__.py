"""From a video file to frames on an exact time grid within a pixel budget."""
