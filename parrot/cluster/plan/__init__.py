"""Estimate the jobs, GPU-hours, wall-clock time, memory and disk space of targets before submission."""
