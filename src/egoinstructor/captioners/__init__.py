"""Captioners: the interface, and EgoInstructor's own model behind it."""
