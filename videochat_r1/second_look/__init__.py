"""A further look at the parts of a video that an answer names (paper 3.3, Algorithm 1): what to see, and the prompt that shows it."""
