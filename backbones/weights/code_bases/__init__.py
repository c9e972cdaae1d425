"""How each code base of the field names its weights, one module each: from there to timm's names."""
