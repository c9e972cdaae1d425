"""Object detection and instance segmentation: Mask R-CNN on COCO-format sets, with any backbone as its trunk."""
