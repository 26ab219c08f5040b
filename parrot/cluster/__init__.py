"""Jobs on a cluster: launching them, planning what they take, examining what would stop them."""
