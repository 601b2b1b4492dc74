"""What teachers add to a training: stored soft labels, live teachers, and the loss of both."""
