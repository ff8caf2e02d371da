//! The CNI plugin as a library.
