"""How the Hugging Face hub calls its files of weights, and those beside them that describe a model."""

WEIGHTS = frozenset({"model.safetensors", "pytorch_model.bin"})
MODEL, PIXELS = "config.json", "preprocessor_config.json"
DESCRIPTIONS = (MODEL, PIXELS)
