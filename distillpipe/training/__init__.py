"""Fine-tuning of a student: tokenized rows, losses, the training loop and its forecast."""
