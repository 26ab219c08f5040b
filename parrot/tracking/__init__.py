"""MLflow's view of the records."""
