"""Ripple, a method that nobody knows, and its encoder: an example of what others plug into backbench."""
