//! The CNI specification's side: what the runtime passes in, and what it wants back, in each version.
//!
//! Sections are those of the Container Network Interface Specification 1.1.0.

mod config;
mod error;
mod request;
mod result;
mod version;

pub use config::{Attachment, Config, Dns};
pub use error::{Code, Error};
pub use request::{Command, Container, Environment, PodName};
pub use result::Success;
pub use version::{Version, versions};
