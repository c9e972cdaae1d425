"""How large the sets are: as published, or as it follows from how the images of three of them are divided."""

from tasks.datasets.identity import Counts

COUNTS = {
    name: Counts(train_images=train, evaluation_images=evaluation, classes=classes)
    for name, train, evaluation, classes in (
        ("cifar10", 50_000, 10_000, 10),
        ("cifar100", 50_000, 10_000, 100),
        ("flowers102", 2_040, 6_149, 102),
        ("pets", 3_680, 3_669, 37),
        ("cars", 8_144, 8_041, 196),
        ("aircraft", 6_667, 3_333, 100),
        ("dtd", 3_760, 1_880, 47),
        ("food101", 75_750, 25_250, 101),
        ("sun397", 19_850, 19_850, 397),
        ("caltech101", 3_030, 5_647, 101),  # 8,677 images without the background
        ("eurosat", 21_600, 5_400, 10),  # 27,000 images
    )
}
