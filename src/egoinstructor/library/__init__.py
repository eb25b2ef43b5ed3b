"""The library of exocentric how-to clips that an ego clip's references come from."""
