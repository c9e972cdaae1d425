"""How large the data sets are, as published."""

from tasks.datasets.identity import Counts

UNCERTAIN = 0.01
"""Of counts that no source but the competitions' pages confirms: numbers of images may be off by this share."""

PLACES205 = Counts(train_images=2_448_873, evaluation_images=20_500, classes=205, tolerance=UNCERTAIN)
PLACES365 = Counts(train_images=1_803_460, evaluation_images=36_500, classes=365)
