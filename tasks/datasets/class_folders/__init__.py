"""Images in one folder per class: ImageNet and anybody's own photographs."""
