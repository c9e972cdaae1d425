"""Images to evaluate ImageNet's classifiers on, with none to train on: ImageNet-A, -C, -R, -Sketch, -V2 and -ReaL."""
