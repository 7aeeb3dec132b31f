//! How near two engines' logits are: neither is the reference, but both read the same weights and tokens.

use std::path::Path;

use anyhow::{Context, Result, bail};

/// Two rows of logits compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Likeness {
    /// 1 where they point the same way.
    pub(super) cosine: f64,
    /// Of the same token's logits.
    pub(super) max_difference: f64,
    /// Whether the likeliest token is the same.
    pub(super) same_token: bool,
}

impl Likeness {
    /// Of files with f32 in little-endian.
    pub(super) fn of(ours: &Path, theirs: &Path) -> Result<Self> {
        let (ours, theirs) = (read(ours)?, read(theirs)?);
        if ours.len() != theirs.len() || ours.is_empty() {
            bail!("{} logits here and {} there", ours.len(), theirs.len());
        }
        Ok(Self::between(&ours, &theirs))
    }

    fn between(a: &[f64], b: &[f64]) -> Self {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        let max_difference = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let likeliest = |row: &[f64]| (0..row.len()).max_by(|&i, &j| row[i].total_cmp(&row[j]));
        Self { cosine, max_difference, same_token: likeliest(a) == likeliest(b) }
    }
}

fn read(path: &Path) -> Result<Vec<f64>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (values, _) = bytes.as_chunks();
    Ok(values.iter().map(|value| f64::from(f32::from_le_bytes(*value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_rows_are_alike_and_opposite_ones_are_not() {
        let row = [1.0, -2.0, 3.0];
        let same = Likeness::between(&row, &row);
        assert!((same.cosine - 1.0).abs() < 1e-12 && same.max_difference == 0.0 && same.same_token);
        let opposite = Likeness::between(&row, &row.map(|value| -value));
        assert!(
            (opposite.cosine + 1.0).abs() < 1e-12 && opposite.max_difference == 6.0 && !opposite.same_token
        );
    }

    #[test]
    fn files_of_different_lengths_are_not_compared() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&a, [0; 8]).unwrap();
        std::fs::write(&b, [0; 12]).unwrap();
        assert!(Likeness::of(&a, &b).is_err());
        assert!(Likeness::of(&a, &a).is_ok());
    }
}
