"""Whether tonight's numbers are worse than those before, and since when: pure functions on the rows of results.csv."""
