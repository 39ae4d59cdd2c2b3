"""Memory of a rank, term by term."""
