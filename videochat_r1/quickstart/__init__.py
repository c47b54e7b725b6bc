"""The main job in minutes on two CPU cores: a tiny model learns from synthetic video, with everything a real run uses."""
