"""How the Hugging Face hub calls its files of weights, and those beside them that describe a model."""

INDEX = ".index.json"
"""How the name of the index of several files ends; what comes before is the name of the one that they stand for."""

IN_ORDER = tuple(f"{name}{ending}" for name in ("model.safetensors", "pytorch_model.bin") for ending in ("", INDEX))
"""The first of them that a folder has is read, as transformers does."""

WEIGHTS = frozenset(IN_ORDER)
OPEN_CLIPS_WEIGHTS = frozenset(("open_clip_model.safetensors", "open_clip_pytorch_model.bin"))

MODEL, PIXELS = "config.json", "preprocessor_config.json"
OPEN_CLIPS = "open_clip_config.json"
"""open_clip's description of model and pixels, beside its own weights."""

DESCRIPTIONS = (MODEL, PIXELS, OPEN_CLIPS)
