"""In a real browser, against the running demo."""
