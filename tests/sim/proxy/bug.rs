//! Deliberate bugs: what the sweep must find.

/// Bugs that the simulator makes where it touches the code under test; `pgdog::base::sabotage` has the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimBug {
    /// A granted server goes to another session than the one that waited for it.
    SwappedGrant,
    /// A slot of a pool is freed twice.
    DoubleCheckin,
    /// A letter wakes nobody.
    LostWakeup,
    /// A cancel request is sent when its sender has already been told that it has arrived.
    LateCancel,
    /// The close bit of an event that comes with data is dropped.
    DroppedClose,
    /// The letter that a server has been taken over is lost.
    LostLetter,
    /// The letter that a session has ended, to where it began, is lost.
    KeptPlace,
}
