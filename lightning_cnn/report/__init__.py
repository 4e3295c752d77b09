"""Pages about finished runs, made from the files in their folders, without torch.

A page is one HTML file that needs nothing else: figures and style are embedded, and it runs no script.
"""
