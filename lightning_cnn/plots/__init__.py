"""Figures of runs and predictions (`figures`), and the metrics behind them (`evaluation`); nothing here needs torch."""
