//! Versions of the box's system: from the folder that the installer staged into the slot that doesn't run, so that no cut
//! cord ever leaves a box that doesn't start; and which of two versions starts next.
//!
//! ```text
//! the box's drive    wels-esp  wels-root-a  wels-root-a-verity  wels-root-b  wels-root-b-verity  wels-state  wels-models
//!                    │         └ slot a: system, hashes ─┘      └ slot b ──────────────────┘
//!                    └ EFI/Linux/wels_VERSION+TRIES.efi: kernel, initrd, and the root hash that names its slot
//! ```
//!
//! A version is three things that are only good together: the bytes of a slot's two partitions, the ids of these in the
//! table, and a boot file that finds them by those ids. The boot file goes first and comes last (`write.rs`), the table has a
//! whole copy at any moment (`table.rs`), and which version starts next the boot files' names say (`esp.rs`, `choose.rs`).
//!
//! Two sides use it. A process with rights to the drive calls [`StagedSystem::open`] and [`write()`], [`rollback`], [`stay`] and
//! [`look`]; it believes nothing of the folder but what was signed and hashed. The daemon has no such rights; at its start it
//! is given what [`look`] saw, and calls [`settle`]:
//!
//! ```text
//! stage ─> pending ── settle: Write ──> write() ─> put ── settle: Restart ──> restart ─┐
//!             ┌────────────────────────────────────────────────────────────────────────┘
//!             ├ the new version runs:  settle: OnTrial ── well ──> settle: Serves      committed
//!             └ the old one runs:      settle: GivenUp                                 abandoned, the reason kept
//! ```
//!
//! At its start the daemon calls it with `is_well: false`, and once its model has said a word, which is what the gate of the
//! boot asks for, with `is_well: true`: a version that isn't well is never committed, and comes back as `GivenUp` when the
//! one before it runs again.

mod boot_file;
mod choose;
mod esp;
mod problem;
mod settle;
mod slots;
mod staged;
mod table;
mod version;
mod write;

pub use self::boot_file::{BootFacts, boot_facts};
pub use self::choose::{rollback, stay};
pub use self::esp::Standing;
pub use self::problem::Problem;
pub use self::settle::{BootState, Bootable, Settled, look, settle};
pub use self::slots::{Disk, RootHash, Slot, Slots};
pub use self::staged::StagedSystem;
pub use self::version::{NoVersion, SystemVersion};
pub use self::write::{Place, Written, write};
