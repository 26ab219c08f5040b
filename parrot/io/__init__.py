"""Files written whole, locks, digests, web addresses."""
