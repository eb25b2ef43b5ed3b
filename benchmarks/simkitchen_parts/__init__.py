"""The parts of `benchmarks/on_simkitchen.py`."""
