"""What an encoder has learned, measured on held-out patients."""
