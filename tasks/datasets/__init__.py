"""The data sets of the tasks, each in its real layout on disk."""

DATASETS = {
    "imagenet1k": "train/CLASS/*.JPEG and val/CLASS/*.JPEG, or val/*.JPEG with its mapping file",
    "mini": "the generated images of `backbench data mini`, in the same layout",
    "folders": "your own images: train/CLASS and val/CLASS, or CLASS alone, of which a fifth is held out",
}
"""What each data set looks like on disk, by the name that `backbench data check` takes."""
