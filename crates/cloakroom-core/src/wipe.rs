//! Secrets that leave nothing behind: wiped when they are dropped.

/// Has a type wipe one of its fields when it is dropped.
macro_rules! wiped {
    ($($secret:ty, $field:tt);+) => {$(
        impl Drop for $secret {
            fn drop(&mut self) {
                zeroize::Zeroize::zeroize(&mut self.$field);
            }
        }

        impl zeroize::ZeroizeOnDrop for $secret {}
    )+};
}
pub(crate) use wiped;

/// Bytes that are wiped when they are dropped: a token's text as it came.
#[derive(Clone)]
pub(crate) struct Wiped<const N: usize>(pub(crate) [u8; N]);

impl<const N: usize> Drop for Wiped<N> {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl<const N: usize> std::fmt::Debug for Wiped<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wiped(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use zeroize::ZeroizeOnDrop;

    use crate::csrf::{CsrfKey, CsrfToken, Visitor, VisitorKeys};
    use crate::seal::DataKey;
    use crate::token::{Secret, TokenText};

    #[test]
    fn every_secret_is_of_a_type_that_wipes_itself() {
        const fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<Secret>();
        wiped::<TokenText>();
        wiped::<DataKey>();
        wiped::<CsrfToken>();
        wiped::<CsrfKey>();
        wiped::<Visitor>();
        wiped::<VisitorKeys>();
    }
}
