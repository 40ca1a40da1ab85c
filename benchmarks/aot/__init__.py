"""What XLA's compilers say of a program for devices that are not here: its time, by operation."""
