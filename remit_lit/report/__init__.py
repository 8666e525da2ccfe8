"""A page of what runs logged and found: curves, settings, data and results, of one run or of several overlaid."""
