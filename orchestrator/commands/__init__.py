"""What the commands of `paretoray` take and print."""
