//! How much the tests do: all figures in one place.

/// The size of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Fits continuous integration: the whole crate in about three minutes on two busy cores.
    Ci,
    /// As much as is of use in one go; `scripts/soak` repeats it.
    Soak,
}

impl Size {
    /// The size that `CLOAKROOM_RELIABILITY` asks for: `soak`, or nothing for [`Size::Ci`].
    ///
    /// # Panics
    ///
    /// If it asks for something else.
    pub fn asked_for() -> Self {
        match std::env::var("CLOAKROOM_RELIABILITY").as_deref() {
            Err(_) | Ok("" | "ci") => Self::Ci,
            Ok("soak") => Self::Soak,
            Ok(other) => panic!("CLOAKROOM_RELIABILITY is {other:?}; expected nothing, ci or soak"),
        }
    }

    /// Picks one of two figures.
    pub const fn pick(self, ci: u64, soak: u64) -> u64 {
        match self {
            Self::Ci => ci,
            Self::Soak => soak,
        }
    }

    /// Operations of one recorded history.
    pub const fn operations(self) -> u64 {
        self.pick(4_000, 40_000)
    }

    /// Recorded histories a store.
    pub const fn histories(self) -> u64 {
        self.pick(3, 10)
    }

    /// Logins that stand at one barrier.
    pub const fn logins(self) -> usize {
        match self {
            Self::Ci => 200,
            Self::Soak => 400,
        }
    }

    /// Rounds of logins a policy.
    pub const fn login_rounds(self) -> u64 {
        self.pick(2, 10)
    }
}
