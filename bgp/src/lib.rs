//! A BGP speaker as a library.
