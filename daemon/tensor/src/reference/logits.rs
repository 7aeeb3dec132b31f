//! From logits to a choice.

/// Index of the largest value, the first of equals; NaN is never the largest. 0 for an empty slice.
pub fn argmax(x: &[f32]) -> usize {
    let mut best = 0;
    for (i, &value) in x.iter().enumerate() {
        if value > x[best] || x[best].is_nan() {
            best = i;
        }
    }
    best
}

/// log softmax(x)[i] = x[i] - max - ln sum_j e^(x[j] - max), in place, natural logarithm.
///
/// At least one value is finite, none is NaN or +inf.
pub fn log_softmax(x: &mut [f32]) {
    let max = f64::from(x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let log_sum = x.iter().map(|&x| (f64::from(x) - max).exp()).sum::<f64>().ln();
    for x in x.iter_mut() {
        *x = (f64::from(*x) - max - log_sum) as f32;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::reference;

    #[test]
    fn argmax_takes_the_first_of_equals_and_skips_nan() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(argmax(&[f32::NAN, -2.0, f32::NAN, -1.0]), 3);
        assert_eq!(argmax(&[f32::NEG_INFINITY, f32::NEG_INFINITY]), 0);
        assert_eq!(argmax(&[]), 0);
    }

    proptest! {
        #[test]
        fn log_softmax_is_the_logarithm_of_softmax(x in prop::collection::vec(-20f32..20.0, 1..200)) {
            let (mut p, mut log_p) = (x.clone(), x);
            reference::softmax(&mut p);
            log_softmax(&mut log_p);
            prop_assert!(p.iter().zip(&log_p).all(|(p, log_p)| (p.ln() - log_p).abs() < 1e-4));
        }
    }
}
