"""Whether generated rows look like data: tests and distances of two samples."""
