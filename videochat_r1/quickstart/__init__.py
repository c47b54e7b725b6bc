"""The main job in minutes on two CPU cores: a tiny Qwen2.5-VL learns from synthetic video, with everything a real run uses."""
