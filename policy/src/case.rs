//! The expectations in the cases that tests and labs share.
