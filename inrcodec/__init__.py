"""inrcodec: pictures and sounds as fitted functions."""

__version__ = "0.1.0"
