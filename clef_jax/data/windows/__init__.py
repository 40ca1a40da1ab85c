"""Recordings cut into windows, the encoder's input."""
