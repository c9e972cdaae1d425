"""Partial fine-tuning: the last blocks of a backbone train, with the norm and the head behind them."""
