"""Both stages of training, by one recipe."""
