"""Linear probing as MAE has it: one linear layer, trained on augmented images behind a frozen backbone."""
