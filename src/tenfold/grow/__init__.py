"""Moving an embedded installation to a database server, while the app runs (``tenfold grow``)."""
