"""Prediction, grading and scoring of VLMEvalKit-style benchmarks."""
