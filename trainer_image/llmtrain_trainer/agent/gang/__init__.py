"""What the agents of all nodes decide together: where they meet, which checkpoint they resume, whether they restart."""
