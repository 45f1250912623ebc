"""How well and how fast a checkpoint ranks."""
