"""Weights & Biases and MLflow beside TensorBoard: what a run shows there."""
