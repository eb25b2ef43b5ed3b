"""Whole recordings: cut into windows, captioned, and written as tracks; and streams, captioned as they come."""
