//! A list that grows and shrinks by pages, so that it is never copied as a whole, and has little more room than it needs.

const PAGE: usize = 256;

#[derive(Debug)]
pub(crate) struct PagedVec<T> {
    /// Full ones, but for the last; none is empty.
    pages: Vec<Vec<T>>,
}

impl<T> Default for PagedVec<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> PagedVec<T> {
    pub(crate) fn len(&self) -> usize {
        self.pages.last().map_or(0, |last| (self.pages.len() - 1) * PAGE + last.len())
    }

    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.pages.get(index / PAGE)?.get(index % PAGE)
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.pages.get_mut(index / PAGE)?.get_mut(index % PAGE)
    }

    pub(crate) fn push(&mut self, value: T) {
        match self.pages.last_mut() {
            Some(last) if last.len() < PAGE => last.push(value),
            _ => {
                let mut page = Vec::with_capacity(PAGE);
                page.push(value);
                self.pages.push(page);
            }
        }
    }

    /// Takes a value out, and puts the last one in its place.
    pub(crate) fn swap_remove(&mut self, index: usize) -> Option<T> {
        if index >= self.len() {
            return None;
        }
        let page = self.pages.last_mut()?;
        let last = page.pop()?;
        if page.is_empty() {
            self.pages.pop();
        }
        // The last one itself may be the one to go.
        Some(match self.get_mut(index) {
            Some(value) => std::mem::replace(value, last),
            None => last,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pages_are_like_one_list(values in 0..4 * PAGE, removed in proptest::collection::vec(any::<usize>(), 0..3 * PAGE)) {
            let (mut pages, mut model) = (PagedVec::default(), (0..values).collect::<Vec<_>>());
            for value in 0..values {
                pages.push(value);
            }
            for index in removed {
                let index = index % (model.len() + 1);
                let expected = (index < model.len()).then(|| model.swap_remove(index));
                prop_assert_eq!(pages.swap_remove(index), expected);
                prop_assert_eq!(pages.get(index), model.get(index));
            }
            prop_assert_eq!(pages.len(), model.len());
            prop_assert_eq!(pages.pages.len(), model.len().div_ceil(PAGE));
            prop_assert!(model.iter().enumerate().all(|(index, value)| pages.get(index) == Some(value)));
        }
    }
}
