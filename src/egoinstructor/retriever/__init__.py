"""Clips and texts → embeddings in one space: what finds an ego clip's how-to references."""
