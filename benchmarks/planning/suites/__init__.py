"""Suites: which cells are compared, and where on this machine their data and weights are. Nothing is run here."""
