"""Photographs on disk: finding them, decoding them, cropping them.

Everything here works on uint8 tensors (3, H, W) in RGB until `normalise` makes a batch of floating-point numbers.
"""
