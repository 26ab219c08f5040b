"""Prediction and scoring of VLMEvalKit-style benchmarks."""
