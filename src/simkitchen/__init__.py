"""SimKitchen: rendered ego and exo clips of the same actions, for the demo and the end-to-end benchmark."""
