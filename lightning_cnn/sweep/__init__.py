"""Searches and repetitions: many runs of `fit`, shared among any number of workers."""
