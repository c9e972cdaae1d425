"""Images with a label for every pixel: ADE20K and sets like it."""
