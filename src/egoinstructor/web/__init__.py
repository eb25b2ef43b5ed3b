"""The page and the HTTP API: what strangers send is bounded, decoded in a process of its own, and forgotten."""
