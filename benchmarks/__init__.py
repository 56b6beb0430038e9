"""Speed and memory of a delivery, side by side with what a user would pick instead. Not part of the product; `make bench`."""
