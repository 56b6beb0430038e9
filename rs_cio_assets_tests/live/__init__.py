"""What only a real cluster and a real workspace can tell: asked by `make smoke`, answered into a file. See docs/live.md."""
