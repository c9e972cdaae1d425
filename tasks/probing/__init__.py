"""Probes: what a frozen backbone knows, told by small classifiers on features that are computed once."""
