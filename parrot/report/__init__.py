"""Tables, figures and the page of a scale's results, built from scores, predictions and records; never from a model."""
