"""Classifiers that others have trained: what their files are, as each code base has them."""
