"""What partial fine-tuning measures: a classifier's numbers, of which top-1 has a name of its own."""

TOP1 = "partial_top1"
"""As records call it, so that it is ranked with partly fine-tuned classifiers alone."""
