//! Which scripts a page may run: Content Security Policy Level 3, as a typed builder and as a judge of other people's
//! policies.
//!
//! [`CspOptions`] makes a policy that names scripts by a [`Nonce`], fresh for each response, and refuses to make one
//! that a browser of today treats as bypassable. [`assess`] reads any policy as such a browser does and names each
//! [`Weakness`]; [`Csp::mend`] says what to send beside a weak one. [`Violation`] is what is kept of a browser's
//! report.
//!
//! **What is judged** is whether injected markup can run script, load plugins, change where relative addresses and
//! forms go, restyle the page, or whether other sites can frame it. Where a page may send data to is not: a policy
//! cannot keep a script that runs from navigating away with what it knows. Nor can the text of one response tell
//! whether its nonce is fresh.

mod assess;
mod builder;
mod nonce;
mod policy;
mod report;
mod source;

pub use assess::{Weakness, assess};
pub use builder::{CspOptions, Resource};
pub use nonce::{NONCE_LEN, Nonce};
pub use policy::{Csp, REPORT_GROUP};
pub use report::{ApiReport, Blocked, Disposition, LegacyReport, REPORTS_MAX, Violation};
