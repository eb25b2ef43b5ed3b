"""How good captions and retrieval are."""
