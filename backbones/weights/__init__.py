"""Files of weights: read safely, named as timm names them, loaded strictly."""
