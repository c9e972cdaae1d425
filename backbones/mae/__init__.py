"""Masked autoencoders: the model, its masks and positions, its pre-training, and pictures of what it paints."""
