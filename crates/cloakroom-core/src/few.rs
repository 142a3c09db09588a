//! A list that is mostly empty or of one element, and then takes no allocation.

/// The first element beside the others.
#[derive(Clone, Debug)]
pub(crate) struct Few<T> {
    first: Option<T>,
    others: Vec<T>,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { first: None, others: Vec::new() }
    }
}

impl<T> Few<T> {
    pub(crate) const fn of(first: T) -> Self {
        Self { first: Some(first), others: Vec::new() }
    }

    pub(crate) fn push(&mut self, element: T) {
        match self.first {
            None => self.first = Some(element),
            Some(_) => self.others.push(element),
        }
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = T> {
        self.first.into_iter().chain(self.others)
    }

    pub(crate) fn last(&self) -> Option<&T> {
        self.others.last().or(self.first.as_ref())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.others)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        // The others follow a first.
        self.first.is_none()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back_in_the_order_in_which_they_were_pushed() {
        let mut few = Few::default();
        assert!(few.is_empty() && few.last().is_none());
        for n in 0..4 {
            few.push(n);
            assert_eq!(few.last(), Some(&n));
        }
        assert_eq!(few.iter().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(few.clone().into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
        few.clear();
        assert!(few.is_empty() && few.iter().next().is_none());
    }
}
