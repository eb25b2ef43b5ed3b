"""Live video: sources, their clock, windows of frames, captions of windows."""
