"""Tables, figures and pages, built from scores, predictions and records; never from a model."""
