"""Image classification: a backbone with a linear head, fine-tuned on ImageNet or on class folders of one's own."""
