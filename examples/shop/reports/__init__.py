"""Reports. ``revenue``: the API and its jobs · ``nightly``: all orders, every night · ``chart``: the picture."""
