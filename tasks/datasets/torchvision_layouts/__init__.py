"""Sets to classify as their makers distribute them, read by torchvision's classes."""
