"""The memory estimate of a rank, term by term."""
