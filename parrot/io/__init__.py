"""Whole files, locks, what is kept between starts, and addresses: the ground that everything stands on."""
