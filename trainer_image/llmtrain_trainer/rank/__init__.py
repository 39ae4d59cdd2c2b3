"""One rank from fork to exit: the training loop and what it writes."""
