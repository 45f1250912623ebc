"""What knows this machine: files, progress, devices, transfers to them."""
