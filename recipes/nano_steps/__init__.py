"""The steps of `recipes/nano.py`."""
