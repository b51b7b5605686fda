"""The instrument host: the far end of a link, in firmware, and its Python side."""
