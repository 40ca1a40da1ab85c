"""How good an encoder is: what it has learned of its own patients, and tasks of other data."""
