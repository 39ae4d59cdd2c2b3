"""Rules over several fields."""
