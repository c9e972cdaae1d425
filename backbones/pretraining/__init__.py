"""Pre-training of masked autoencoders, and of any module that gives a loss from images."""
