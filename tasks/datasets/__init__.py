"""The data sets of the tasks, each in its real layout on disk: class folders, COCO's format, label maps."""
