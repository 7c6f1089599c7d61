"""The reference application of Tenfold: a small shop, sold to the penny. Start reading at app.py."""
