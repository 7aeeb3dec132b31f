//! Two images that should be one: which bytes differ, and in which partition.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::Tree;
use crate::console;

/// Bytes compared at a time.
const BLOCK: usize = 1 << 20;
/// Differences closer than this are one.
const GAP: u64 = 4096;
/// Ranges that are shown.
const SHOWN_MAX: usize = 40;

/// A partition, in sectors.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Partition {
    pub(super) start: u64,
    pub(super) size: u64,
    pub(super) name: String,
}

#[derive(Deserialize)]
struct Table {
    partitiontable: Partitions,
}

#[derive(Deserialize)]
struct Partitions {
    partitions: Vec<Partition>,
}

/// The partitions of an image of the work folder, in bytes.
pub(super) fn partitions(tree: &Tree, image: &Path) -> Result<Vec<Partition>> {
    let json = tree.tool("sfdisk").arg("--json").arg(tree.inside(image)).output()?;
    let table: Table = serde_json::from_str(&json).context("sfdisk's table")?;
    let in_bytes = |partition: Partition| Partition {
        start: partition.start * 512,
        size: partition.size * 512,
        ..partition
    };
    Ok(table.partitiontable.partitions.into_iter().map(in_bytes).collect())
}

/// Says what differs.
///
/// # Errors
/// Something does.
pub(super) fn images(tree: &Tree, first: &Path, second: &Path) -> Result<()> {
    let partitions = partitions(tree, second)?;
    let open = |path: &Path| File::open(path).with_context(|| format!("cannot open {}", path.display()));
    let ranges = ranges(open(first)?, open(second)?)?;
    if ranges.is_empty() {
        console::note("two builds, not one byte between them");
        return Ok(());
    }
    for (from, to) in ranges.iter().take(SHOWN_MAX) {
        console::note(place(&partitions, *from, *to));
    }
    bail!("two builds of the same inputs differ in {} ranges; the first {SHOWN_MAX} are above", ranges.len())
}

fn place(partitions: &[Partition], from: u64, to: u64) -> String {
    let inside = partitions.iter().find(|part| (part.start..part.start + part.size).contains(&from));
    match inside {
        Some(part) => format!("{}: {} bytes at {} of it", part.name, to - from, from - part.start),
        None => format!("outside of partitions: {} bytes at {from}", to - from),
    }
}

/// Differing ranges; where one ends before the other, the rest differs.
fn ranges(mut first: impl Read, mut second: impl Read) -> Result<Vec<(u64, u64)>> {
    let (mut a, mut b) = (vec![0; BLOCK], vec![0; BLOCK]);
    let (mut at, mut found) = (0, Vec::<(u64, u64)>::new());
    let mut differ = |from: u64, to: u64| match found.last_mut() {
        Some(last) if from <= last.1 + GAP => last.1 = to,
        _ => found.push((from, to)),
    };
    loop {
        let (n, m) = (fill(&mut first, &mut a)?, fill(&mut second, &mut b)?);
        let both = n.min(m);
        if a[..both] != b[..both] {
            let differing = (0..both).filter(|idx| a[*idx] != b[*idx]).map(|idx| at + idx as u64);
            differing.for_each(|byte| differ(byte, byte + 1));
        }
        if n != m {
            differ(at + both as u64, at + n.max(m) as u64);
        }
        if n.max(m) == 0 {
            return Ok(found);
        }
        at += n.max(m) as u64;
    }
}

fn fill(from: &mut impl Read, block: &mut [u8]) -> Result<usize> {
    let mut n = 0;
    while n < block.len() {
        match from.read(&mut block[n..]).context("cannot read an image")? {
            0 => break,
            read => n += read,
        }
    }
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_that_are_close_are_one_range() {
        let first = vec![0u8; 3 * BLOCK];
        let mut second = first.clone();
        for at in [10, 20, BLOCK - 1, BLOCK, 2 * BLOCK + 5] {
            second[at] = 1;
        }
        let block = BLOCK as u64;
        let want = vec![(10, 21), (block - 1, block + 1), (2 * block + 5, 2 * block + 6)];
        assert_eq!(ranges(&first[..], &second[..]).unwrap(), want);
        assert!(ranges(&first[..], &first[..]).unwrap().is_empty());
        assert_eq!(ranges(&first[..5], &first[..9]).unwrap(), [(5, 9)]);
    }

    #[test]
    fn a_range_is_named_by_its_partition() {
        let partitions = [Partition { start: 100, size: 50, name: "esp".into() }];
        assert_eq!(place(&partitions, 110, 112), "esp: 2 bytes at 10 of it");
        assert_eq!(place(&partitions, 150, 151), "outside of partitions: 1 bytes at 150");
    }
}
