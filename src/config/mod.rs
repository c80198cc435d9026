//! Configuration files, command line URLs and environment: typed and checked.
