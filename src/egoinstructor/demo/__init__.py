"""The demo: ego clips captioned by the nano model with and without retrieval, as a page and a contact sheet."""
