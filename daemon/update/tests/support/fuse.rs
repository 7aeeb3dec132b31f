//! A file in a file system of our own.
