"""A conversation with a model about a video or pictures: questions go in, events come out as the model reads, looks and writes."""
