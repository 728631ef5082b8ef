"""What a file or a folder holds, described as plain data and rendered."""
