"""How large the data sets are, as published."""

from tasks.datasets.identity import Counts

PLACES205 = Counts(train_images=2_448_873, evaluation_images=20_500, classes=205, tolerance=0.01)
"""How many train is told by the makers' page alone, which no longer distributes the set."""
PLACES365 = Counts(train_images=1_803_460, evaluation_images=36_500, classes=365)

INAT2017 = Counts(train_images=579_184, evaluation_images=95_986, classes=5_089)
INAT2018 = Counts(train_images=437_513, evaluation_images=24_426, classes=8_142)
INAT2019 = Counts(train_images=265_213, evaluation_images=3_030, classes=1_010)
"""2017 and 2018: the tables of super categories in visipedia/inat_comp (2017/README.md, 2018/README.md). 2019: its page
there says 268,243 in all, which are 265,213 to train on and 3,030 to evaluate on.
"""
