"""What a cluster is asked and told: launching, planning, examining."""
