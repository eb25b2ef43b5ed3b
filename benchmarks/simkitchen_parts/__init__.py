"""The parts of `benchmarks/simkitchen.py`."""
