"""Settings, catalogues and runs, and what makes a result stale."""
