"""Pretraining: augmentation, optimiser, step, loop."""
