//! Deliberate bugs for the simulator's own tests, to show that its checkers see them. Without the feature `sabotage`
//! nothing of this is in the program.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A server is not brought to its next client's settings.
    MissedReset,
    /// A server that goes keeps a buffer.
    LostBuffer,
    /// A Parse that the server ignored counts as done.
    SkippedParse,
    /// A socket that has been read to its end counts as read although its record layer has more.
    ForgottenRecords,
    /// A server that has read a statement later than its client was told of it is not asked what it has read.
    UncheckedShape,
    /// A pool takes no notice of a limit over several pools.
    IgnoredQuota,
    /// A server goes back with what it listened to for its client.
    KeptListens,
    /// A cancel request ends where its session began, though that has moved.
    LostTrail,
    /// What a client's own server has told it comes once more from the connection that listens.
    RepeatedNotification,
}

#[cfg(feature = "sabotage")]
thread_local! {
    static ON: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Whether this thread is to have the bug.
#[inline(always)]
pub fn is_on(bug: Bug) -> bool {
    #[cfg(feature = "sabotage")]
    return ON.get() == Some(bug);
    #[cfg(not(feature = "sabotage"))]
    {
        let _ = bug;
        false
    }
}

#[cfg(feature = "sabotage")]
pub fn switch(bug: Option<Bug>) {
    ON.set(bug);
}
