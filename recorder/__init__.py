"""Watchroom's recorder: kernels, sources and camera supervision. Holds nothing at import: the kernels sit below every floor."""
