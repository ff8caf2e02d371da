//! Who may talk to whom.

pub mod expression;
