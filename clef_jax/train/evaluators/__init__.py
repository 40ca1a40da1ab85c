"""What is asked of the weights now and then during a run."""
