//! What became of a slice that was asked for, in words to count by.

/// What became of a slice that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheOutcome {
    /// It was there.
    Hit,
    /// A fetch was begun for it.
    Miss,
    /// A fetch was under way already.
    Joined,
    /// It was not kept: the disk would not have it.
    Bypass,
    /// A slice was damaged, the disk failed, or the store did.
    Error,
}

impl CacheOutcome {
    /// Every outcome.
    pub const ALL: [Self; 5] = [
        Self::Hit,
        Self::Miss,
        Self::Joined,
        Self::Bypass,
        Self::Error,
    ];

    /// The outcome in one word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Joined => "joined",
            Self::Bypass => "bypass",
            Self::Error => "error",
        }
    }

    pub(super) const fn place(self) -> usize {
        match self {
            Self::Hit => 0,
            Self::Miss => 1,
            Self::Joined => 2,
            Self::Bypass => 3,
            Self::Error => 4,
        }
    }
}
