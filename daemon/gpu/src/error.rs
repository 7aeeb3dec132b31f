//! What can go wrong with a card.

/// A card that can't be used, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no Vulkan device.
    #[error(
        "no graphics card with a Vulkan driver was found; install the vendor's driver (Debian: mesa-vulkan-drivers for AMD and \
         Intel), or leave out --device to compute on the processor"
    )]
    NoCard,
    /// The number given is none of the cards'.
    #[error("--device gpu:{wanted}: there are {n_cards} cards; `wels doctor` lists them")]
    NoSuchCard {
        /// The number.
        wanted: usize,
        /// Cards there are.
        n_cards: usize,
    },
    /// The driver does not give what every kernel needs.
    #[error("{card} cannot be used: {reason}; update its driver, or compute on the processor (--device cpu)")]
    Unfit {
        /// The card.
        card: String,
        /// What lacks.
        reason: String,
    },
    /// The model takes more than the card has.
    #[error("{card} has {has} MB for a model, and this one takes {needs} MB there")]
    TooSmall {
        /// The card.
        card: String,
        /// Megabytes that may be used.
        has: u64,
        /// Megabytes needed.
        needs: u64,
    },
    /// A buffer is larger than the card binds.
    #[error("{card} binds {limit} MB at most, and {what} takes {needs} MB")]
    TooLarge {
        /// The card.
        card: String,
        /// The buffer.
        what: String,
        /// Megabytes that may be bound.
        limit: u64,
        /// Megabytes needed.
        needs: u64,
    },
    /// The device is gone: reset, unplugged, out of memory, or taken away by a test.
    #[error("the graphics card was lost: {reason}")]
    Lost {
        /// What the driver says.
        reason: String,
    },
}
