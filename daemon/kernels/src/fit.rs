//! Buffers that a step grows into.

/// Memory of activations, whose values mean nothing from one stage to the next.
pub trait Fit {
    /// Takes this length. Memory that doesn't suffice is given back before more is taken, and no more is taken than that:
    /// `Vec::resize` would double it for a prompt one token longer than the last.
    fn fit(&mut self, len: usize);
}

impl<T: Clone + Default> Fit for Vec<T> {
    fn fit(&mut self, len: usize) {
        if len > self.capacity() {
            *self = Vec::new();
            self.reserve_exact(len);
        }
        self.resize(len, T::default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_prompt_takes_what_it_needs() {
        let mut buffer = vec![1.0_f32; 2047];
        buffer.fit(2048);
        assert_eq!((buffer.len(), buffer.capacity()), (2048, 2048));
        buffer.fit(3);
        assert_eq!((buffer.len(), buffer.capacity()), (3, 2048), "memory that suffices is kept");
    }
}
