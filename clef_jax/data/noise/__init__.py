"""Noise to add to ECGs: recorded or simulated, on every lead."""
