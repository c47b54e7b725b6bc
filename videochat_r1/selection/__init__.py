"""Training samples chosen by how well a model answers them."""
