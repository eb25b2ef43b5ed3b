"""Published weights → ours, and back: declarative key tables, strict both ways; safetensors out."""
