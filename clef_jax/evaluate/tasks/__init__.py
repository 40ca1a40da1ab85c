"""What a task is, whatever the dataset: a question and the examples that answer it."""
