"""Pages about runs that are finished: read from their folders, and drawn without torch.

A page is one file that needs nothing else: pictures and style are in it, and it runs no script.
"""
