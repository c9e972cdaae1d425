"""What a linear probe measures: a classifier's numbers, of which top-1 has a name of its own."""

TOP1 = "linear_probe_top1"
"""As records call it, so that it is ranked with linear probes alone."""
