"""Tasks put to encoders and baselines, piece by piece, into one folder of results."""
