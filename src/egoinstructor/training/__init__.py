"""Data preparation and training of the captioner."""
