"""report.html: one self-contained page for a person."""
