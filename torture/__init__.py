"""Tests that take hours, one program a file: ``python -m torture`` runs all, ``python -m torture.NAME`` one.

A program takes its options from the command line, writes to temporary folders only, and fails by its exit status.
"""
