"""What can be known to go wrong before a long run starts: machine, model folder, data, recipe and memory."""
