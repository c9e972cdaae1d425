"""Object annotations in COCO's format."""
