"""Evaluation of captions: conditions, samples, runs, reports."""
