"""Measurements of speed: `lightning-cnn benchmark` runs each in a process of its own and compares."""
