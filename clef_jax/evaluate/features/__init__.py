"""Features of windows: embeddings and what is measured, computed once and kept."""
