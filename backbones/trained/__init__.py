"""Trained networks, trunk and head: what a finished run leaves of one in a file, and how a file is put into one."""

WEIGHTS = "weights.safetensors"
"""What a finished run calls the file of them."""
