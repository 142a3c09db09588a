//! What is wrong with a configuration: every problem, with key, value and what was expected.

use std::fmt;

/// One setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting.
    pub key: String,
    /// What it is.
    pub value: String,
    /// What was expected.
    pub expected: String,
}

impl Problem {
    /// Describes a problem.
    pub fn new(key: &str, value: &str, expected: &str) -> Self {
        Self { key: key.to_owned(), value: value.to_owned(), expected: expected.to_owned() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?}: expected {}", self.key, self.value, self.expected)
    }
}

/// Every problem of a configuration, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<Problem>);

impl ConfigErrors {
    /// An error if there are problems.
    ///
    /// # Errors
    ///
    /// Itself, if `problems` is not empty.
    pub fn unless_empty(problems: Vec<Problem>) -> Result<(), Self> {
        if problems.is_empty() { Ok(()) } else { Err(Self(problems)) }
    }

    /// One problem.
    pub fn one(key: &str, value: &str, expected: &str) -> Self {
        Self(vec![Problem::new(key, value, expected)])
    }

    /// The problems.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }

    /// These problems and those of another check.
    #[must_use = "this returns all problems"]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} setting(s) cannot be used", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigErrors {}
