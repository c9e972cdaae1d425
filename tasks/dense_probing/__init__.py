"""Dense probing: what the patches of a frozen backbone tell of each pixel, by a batch norm and a linear layer."""
