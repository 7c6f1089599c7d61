"""Reports. ``revenue``: the API and its jobs · ``chart``: the picture."""
