"""Prices faster than some lines can carry them: conflated, beside news that all get and a pulse that some miss."""
