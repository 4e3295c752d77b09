"""Measurements of speed: `scripts/benchmark` runs each in a process of its own and compares."""
