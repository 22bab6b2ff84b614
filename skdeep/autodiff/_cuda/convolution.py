"""Convolutions on a device."""
