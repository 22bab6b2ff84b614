"""Operations that NumPy computes on the CPU, on a device."""
