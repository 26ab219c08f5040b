"""Training: one recipe for both stages."""
