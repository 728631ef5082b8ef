"""Core ML files: packages, programs, weight files. Reading them needs no converter."""
