//! Instruction set levels: named by people, detected at run time, proven by token types.

use std::fmt;
use std::str::FromStr;

use crate::Error;
use crate::simd::{Amx, Avx2, Avx512Vnni, Scalar, Simd};

/// A set of instructions the kernels are compiled for, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Plain Rust.
    Scalar,
    /// AVX2, FMA and F16C (Haswell, Zen).
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI (Cascade Lake, Ice Lake, Zen 4).
    Avx512Vnni,
    /// The same and AMX with 8-bit integers (Sapphire Rapids).
    Amx,
}

impl Level {
    /// All, in ascending order: a processor that has one has those before it.
    pub const ALL: [Self; 4] = [Self::Scalar, Self::Avx2, Self::Avx512Vnni, Self::Amx];

    /// The best level of this processor.
    pub fn detect() -> Self {
        Self::ALL.into_iter().rev().find(|level| Isa::of(*level).is_some()).unwrap_or(Self::Scalar)
    }

    /// The level named by the environment variable `WELS_CPU`, otherwise the best.
    ///
    /// # Errors
    /// The variable holds no level's name.
    pub fn from_env() -> Result<Self, Error> {
        match std::env::var("WELS_CPU") {
            Ok(name) if !name.is_empty() => name.parse(),
            _ => Ok(Self::detect()),
        }
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "scalar" => Ok(Self::Scalar),
            "avx2" => Ok(Self::Avx2),
            "avx512" => Ok(Self::Avx512Vnni),
            "amx" => Ok(Self::Amx),
            _ => Err(Error::UnknownLevel { name: name.into() }),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512Vnni => "avx512",
            Self::Amx => "amx",
        })
    }
}

/// A level this processor has been found to support.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Isa {
    Scalar(Scalar),
    Avx2(Avx2),
    Avx512(Avx512Vnni),
    Amx(Amx),
}

impl Isa {
    /// The proof that `level` runs here.
    pub(crate) fn new(level: Level) -> Result<Self, Error> {
        Self::of(level).ok_or_else(|| Error::UnsupportedLevel { wanted: level, best: Level::detect() })
    }

    /// The same, if it does.
    fn of(level: Level) -> Option<Self> {
        match level {
            Level::Scalar => Some(Self::Scalar(Scalar)),
            Level::Avx2 => Avx2::detect().map(Self::Avx2),
            Level::Avx512Vnni => Avx512Vnni::detect().map(Self::Avx512),
            Level::Amx => Amx::detect().map(Self::Amx),
        }
    }

    pub(crate) fn level(self) -> Level {
        match self {
            Self::Scalar(_) => Level::Scalar,
            Self::Avx2(_) => Level::Avx2,
            Self::Avx512(_) => Level::Avx512Vnni,
            Self::Amx(_) => Level::Amx,
        }
    }

    /// Runs a kernel with this level's instructions.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Scalar(s) => kernel.run(s),
            Self::Avx2(s) => s.run(kernel),
            Self::Avx512(s) => s.run(kernel),
            Self::Amx(s) => s.vectors().run(kernel),
        }
    }
}

/// A computation written once over [`Simd`] and compiled for every level.
///
/// `run` is `#[inline(always)]`: only inside the function that enables a level's instructions may they be used.
pub(crate) trait Kernel {
    /// What the computation gives.
    type Output;

    /// Computes with the instructions `s` stands for.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for level in Level::ALL {
            assert_eq!(level.to_string().parse::<Level>().unwrap(), level);
        }
        assert!("sse9".parse::<Level>().is_err());
    }

    #[test]
    fn every_level_up_to_the_detected_one_runs() {
        let best = Level::detect();
        for level in Level::ALL {
            assert_eq!(Isa::new(level).is_ok(), level <= best, "{level}");
        }
    }
}
