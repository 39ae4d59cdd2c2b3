"""What is read of a job before each decision: its objects, its agents, and which of them are its own."""
