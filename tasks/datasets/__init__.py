"""The data sets of the tasks, each in its real layout on disk."""

DATASETS = {
    "imagenet1k": "train/CLASS/*.JPEG and val/CLASS/*.JPEG, or val/*.JPEG with its mapping file",
    "mini": "the generated images of `backbench data mini`, in the same layout",
    "coco": "train2017/*.jpg, val2017/*.jpg and annotations/instances_*.json, or any set in COCO's format",
    "ade20k": "images/ and annotations/ with training/ and validation/ each, objectInfo150.txt; or any pair of folders",
    "folders": "your own images: train/CLASS and val/CLASS, or CLASS alone, of which a fifth is held out",
}
"""What each data set looks like on disk, by the name that `backbench data check` takes."""
