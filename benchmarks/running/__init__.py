"""Carrying out one cell, from its key to its record; and comparing what came out."""
