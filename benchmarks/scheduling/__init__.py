"""Suites at work: which cell runs when and by whom, what became of each, and what stands in the tables at the end."""
