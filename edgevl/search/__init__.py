"""Find pictures in a folder by words: each is embedded once and kept in an index, and a search is one product."""
