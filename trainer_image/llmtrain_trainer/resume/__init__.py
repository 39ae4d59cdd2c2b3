"""What a run must have in common with the checkpoint that it resumes. Pure."""
