"""Find documents by git's rules and read their text: code, prose, HTML and PDF."""
