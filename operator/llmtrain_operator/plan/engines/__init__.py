"""What each engine asks of a plan beyond what all have in common."""
