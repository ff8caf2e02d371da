//! Input that we could not use: reported in the log, in metrics and by `ocicat check`, never fatal.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing in the input that cannot be used, or cannot be honoured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Problem {
    /// What holds it: `NetworkPolicy shop/web`, or a file and document number.
    pub object: String,
    /// Where in the object, as a path: `spec.ingress[0].from[1].ipBlock.cidr`. Empty for the whole.
    pub field: String,
    /// What is wrong, with the value, and what happens because of it.
    pub message: String,
}

impl Problem {
    /// A problem of `object` at `field`.
    pub fn new(
        object: impl fmt::Display,
        field: impl Into<String>,
        message: impl fmt::Display,
    ) -> Self {
        Self { object: object.to_string(), field: field.into(), message: message.to_string() }
    }
}

impl From<ocicat_policy::Problem> for Problem {
    fn from(problem: ocicat_policy::Problem) -> Self {
        Self::new(problem.object, problem.field, problem.fault)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            write!(f, "{}: {}", self.object, self.message)
        } else {
            write!(f, "{}: {}: {}", self.object, self.field, self.message)
        }
    }
}
