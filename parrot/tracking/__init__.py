"""MLflow's view of the records, live and afterwards."""
