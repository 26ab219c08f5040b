"""What targets take before anything is submitted: jobs, GPU-hours, wall-clock, memory and disk."""
