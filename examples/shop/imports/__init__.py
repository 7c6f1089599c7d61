"""Products from files. ``tables``: what is kept · ``reading``: lines to products · ``loading``: the job · ``api``."""
