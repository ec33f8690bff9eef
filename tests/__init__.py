"""Tests; the packages below mirror the source tree."""
