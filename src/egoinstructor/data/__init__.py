"""Data sets and their preparation: metadata, pairs, benchmarks, transcoding, features, reference exports."""
