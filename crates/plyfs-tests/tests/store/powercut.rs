//! A power cut: the disk as it was at one instant under load, mounted again.
