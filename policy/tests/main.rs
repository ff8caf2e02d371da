//! The cases under `tests/cases` and random clusters, each judged three times: by the oracle, by
//! `decide`, and by the compiled program.

mod cases;
mod cluster;
mod oracle;
