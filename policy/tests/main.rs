//! The cases under `tests/cases` and random clusters, each judged three times: by the oracle, by
//! `decide`, and by the compiled program.

#[cfg(test)]
mod cases;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod random;
