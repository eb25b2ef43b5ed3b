"""Video file → frames → pixels: sampling is arithmetic, decoding is I/O, transforms are tensors; none knows a model."""
