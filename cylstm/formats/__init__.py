"""Reading and writing files: a file or a folder for each format."""
