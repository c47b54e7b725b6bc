"""From frames and words to model inputs, and the models themselves."""
