"""Semantic segmentation: UPerNet on ADE20K and sets like it, with any backbone as its encoder."""
