"""How large the sets are as they are distributed."""

from tasks.datasets.identity import Counts

COUNTS = {
    name: Counts(train_images=None, evaluation_images=images, classes=1_000)
    for name, images in {
        "imagenet-a": 7_500,
        "imagenet-c": 50_000,  # in each of its parts
        "imagenet-r": 30_000,
        "imagenet-sketch": 50_889,
        "imagenet-v2": 10_000,
        "imagenet-v2-threshold": 10_000,
        "imagenet-v2-top": 10_000,
        "imagenet-real": 46_837,  # of ImageNet's 50,000 those that have a label
    }.items()
}
