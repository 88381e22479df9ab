//! How many customers there may be, and how many of them usage may name.
//!
//! Who is registered is vouched for by whoever may register. Whom usage names, anyone who may send usage has named: those
//! leave room for the registered, and no client takes the room of the others.

/// The configured limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustomerLimits {
    /// All customers, of all products.
    pub most: usize,
    /// Customers that one client's usage has named, and of which AWS has accepted nothing yet.
    pub most_unverified: usize,
    /// Customers that one client's usage may name anew in an hour.
    pub most_new: usize,
}

/// How many customers there are when one more comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headcount {
    pub all: usize,
    /// Those that usage has named.
    pub self_named: usize,
    /// Those that the client's usage has named, and of which AWS has accepted nothing yet. `None` where clients are not
    /// told apart: then a limit would shut out the good with the bad.
    pub unverified_of_client: Option<usize>,
    /// Those that the client's usage has named in this hour.
    pub new_of_client: Option<usize>,
}

/// The limit that is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CustomersFull {
    /// Its name in the configuration, with what to know about it.
    pub limit: &'static str,
    pub most: usize,
    /// Whether it is the client's own limit, and others may go on.
    pub is_of_client: bool,
}

impl CustomerLimits {
    /// So much of the table is kept for customers that are registered.
    const KEPT_FOR_REGISTERED: usize = 10;

    /// Whether there is room for one more that is registered.
    pub const fn check_registered(&self, all: usize) -> Result<(), CustomersFull> {
        if all < self.most { Ok(()) } else { Err(CustomersFull::of_all(MAX_CUSTOMERS, self.most)) }
    }

    /// Whether there is room for one more that usage names.
    pub fn check_self_named(&self, count: &Headcount) -> Result<(), CustomersFull> {
        self.check_registered(count.all)?;
        let most_self_named = self.most.saturating_sub(self.most.div_euclid(Self::KEPT_FOR_REGISTERED));
        if count.self_named >= most_self_named {
            return Err(CustomersFull::of_all(MAX_SELF_NAMED, most_self_named));
        }
        if count.unverified_of_client.is_some_and(|unverified| unverified >= self.most_unverified) {
            return Err(CustomersFull::of_client(MAX_UNVERIFIED, self.most_unverified));
        }
        if count.new_of_client.is_some_and(|new| new >= self.most_new) {
            return Err(CustomersFull::of_client(MAX_NEW, self.most_new));
        }
        Ok(())
    }
}

impl CustomersFull {
    const fn of_all(limit: &'static str, most: usize) -> Self {
        Self { limit, most, is_of_client: false }
    }

    const fn of_client(limit: &'static str, most: usize) -> Self {
        Self { limit, most, is_of_client: true }
    }
}

const MAX_CUSTOMERS: &str = "limits.max_customers";
const MAX_SELF_NAMED: &str = "limits.max_customers, of which a tenth is kept for registered customers,";
const MAX_UNVERIFIED: &str = "limits.max_unverified_customers of this client";
const MAX_NEW: &str = "limits.max_new_customers_per_hour of this client";

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CustomerLimits = CustomerLimits { most: 100, most_unverified: 10, most_new: 5 };

    fn full(count: Headcount) -> Option<(&'static str, usize, bool)> {
        let full = LIMITS.check_self_named(&count).err()?;
        Some((full.limit.split([',', ' ']).next()?, full.most, full.is_of_client))
    }

    #[test]
    fn each_limit_is_named_when_it_is_reached_and_not_before() {
        let of = |all, self_named, unverified, new| {
            full(Headcount { all, self_named, unverified_of_client: unverified, new_of_client: new })
        };
        assert_eq!(of(99, 89, Some(9), Some(4)), None);
        assert_eq!(of(100, 0, None, None), Some(("limits.max_customers", 100, false)));
        assert_eq!(of(90, 90, Some(0), Some(0)), Some(("limits.max_customers", 90, false)));
        assert_eq!(of(10, 10, Some(10), Some(0)), Some(("limits.max_unverified_customers", 10, true)));
        assert_eq!(of(10, 10, Some(5), Some(5)), Some(("limits.max_new_customers_per_hour", 5, true)));
        assert_eq!(of(89, 89, None, None), None, "clients that are not told apart have none of their own");
    }

    #[test]
    fn whoever_is_registered_has_the_room_that_usage_leaves() {
        assert_eq!((LIMITS.check_registered(99), LIMITS.check_registered(90)), (Ok(()), Ok(())));
        assert!(LIMITS.check_registered(100).is_err());
        let one = CustomerLimits { most: 1, ..LIMITS };
        assert!(one.check_self_named(&Headcount::default()).is_ok(), "a small table is kept for no one");
    }
}
