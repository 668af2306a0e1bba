"""Bytes on disk: the .inr container, and the picture, sound and array files it is made from."""
