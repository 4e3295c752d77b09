"""Lightning's Trainer, made safe to kill: runs go on exactly, checkpoints are whole, signals are heard."""
