"""How large the data sets are, as published."""

from tasks.datasets.identity import Counts

UNCERTAIN = 0.01
"""Of counts that no source but the competitions' pages confirms: numbers of images may be off by this share."""

PLACES205 = Counts(train_images=2_448_873, evaluation_images=20_500, classes=205, tolerance=UNCERTAIN)
PLACES365 = Counts(train_images=1_803_460, evaluation_images=36_500, classes=365)

INAT2017 = Counts(train_images=579_184, evaluation_images=95_986, classes=5_089, tolerance=UNCERTAIN)
INAT2018 = Counts(train_images=437_513, evaluation_images=24_426, classes=8_142)
INAT2019 = Counts(train_images=265_213, evaluation_images=3_030, classes=1_010, tolerance=UNCERTAIN)
"""2017 and 2018: the tables of super categories in visipedia/inat_comp. 2019: 268,243 in all, says its page there, of
which MLE-bench counts 265,213 to train on.
"""
