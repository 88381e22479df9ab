//! Quantities as AWS counts them, and how base units become them.
//!
//! Integer arithmetic only: what cannot be told to AWS is carried, never rounded away.

use std::{fmt, num::NonZeroU64, str::FromStr};

const MICROS_PER_UNIT: u64 = 1_000_000;
const MAX_WHOLE: u64 = 2_147_483_647;
/// AWS takes up to six decimal places (`QuantityAsDecimal`).
pub(crate) const MAX_DECIMALS: u8 = 6;

/// A quantity of billed units, exact in millionths: 0 to 2147483647 (`BatchMeterUsage` model).
///
/// `QuantityAsDecimal`'s pattern admits more; whether AWS does is not documented, so the smaller limit rules both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(u64);

impl Quantity {
    pub const ZERO: Self = Self(0);
    pub const MAX: Self = Self(MAX_WHOLE * MICROS_PER_UNIT);

    /// `None` above AWS's maximum.
    pub fn from_micros(micros: u64) -> Option<Self> {
        Some(Self(micros)).filter(|quantity| *quantity <= Self::MAX)
    }

    pub const fn micros(self) -> u64 {
        self.0
    }

    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The quantity as the integer field takes it; `None` if it has a fraction.
    pub fn whole(self) -> Option<i32> {
        if !self.0.is_multiple_of(MICROS_PER_UNIT) {
            return None;
        }
        i32::try_from(self.0 / MICROS_PER_UNIT).ok()
    }
}

/// The shortest decimal text, as `QuantityAsDecimal` takes it.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / MICROS_PER_UNIT, self.0 % MICROS_PER_UNIT);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{fraction:06}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// AWS's own grammar: `(0|[1-9][0-9]{0,9})(\.[0-9]{1,6})?`, up to the maximum.
impl FromStr for Quantity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_quantity(text).ok_or_else(|| format!("`{text}` is not a quantity from 0 to {}", Self::MAX))
    }
}

fn parse_quantity(text: &str) -> Option<Quantity> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = whole.len() > 1 && whole.starts_with('0');
    if !is_digits(whole) || !is_digits(fraction) || leading_zero || whole.len() > 10 || fraction.len() > 6 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let fraction: u64 = format!("{fraction:0<6}").parse().ok()?;
    Quantity::from_micros(whole.checked_mul(MICROS_PER_UNIT)?.checked_add(fraction)?)
}

/// How base units become billed units.
///
/// The smallest amount that can be billed exactly is a *step*: `step_base` base units are `step_micros` millionths.
/// For GB with three decimals a step is 1 000 000 bytes and 0.001 GB; for minutes of 60 s with two decimals it is
/// 3 s and 0.05 minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    step_base: NonZeroU64,
    step_micros: NonZeroU64,
    decimals: u8,
}

impl Unit {
    /// `None` if `decimals` is above [`MAX_DECIMALS`].
    pub fn new(base_units: NonZeroU64, decimals: u8) -> Option<Self> {
        let missing = MAX_DECIMALS.checked_sub(decimals)?;
        let places = 10_u64.pow(u32::from(decimals));
        let common = greatest_common_divisor(base_units.get(), places);
        let step_base = NonZeroU64::new(base_units.get().checked_div(common)?)?;
        let step_units = places.checked_div(common)?;
        let step_micros = NonZeroU64::new(step_units.checked_mul(10_u64.pow(u32::from(missing)))?)?;
        Some(Self { step_base, step_micros, decimals })
    }

    /// Whether AWS is told decimals at all.
    pub const fn is_decimal(&self) -> bool {
        self.decimals > 0
    }

    /// The number of base units in the smallest amount that can be billed.
    pub fn step(&self) -> u128 {
        self.step_base.get().into()
    }

    /// Splits `total` base units into what can be billed now and the rest.
    pub fn bill(&self, total: u128) -> Bill {
        self.steps(total, total.checked_div(self.step()).unwrap_or(0))
    }

    /// Bills `total` without a remainder below a step. A rest remains only above AWS's maximum.
    pub fn bill_rounded(&self, total: u128, rounding: Rounding) -> Bill {
        let added = match rounding {
            Rounding::Down => 0,
            Rounding::Nearest => self.step() / 2,
            Rounding::Up => self.step().saturating_sub(1),
        };
        let bill = self.steps(total, total.saturating_add(added).checked_div(self.step()).unwrap_or(0));
        if bill.rest < self.step() { Bill { rest: 0, ..bill } } else { bill }
    }

    /// The quantity of `steps` steps, at most AWS's maximum; and what they leave of `total`.
    fn steps(&self, total: u128, steps: u128) -> Bill {
        let most = Quantity::MAX.0 / self.step_micros;
        let steps = steps.min(u128::from(most));
        let billed = steps.saturating_mul(self.step());
        Bill { quantity: self.quantity_of(steps), billed, rest: total.saturating_sub(billed) }
    }

    /// The largest quantity that AWS takes and that is whole steps.
    pub fn largest_quantity(&self) -> Quantity {
        self.quantity_of(u128::MAX)
    }

    /// The quantity of so many steps, at most AWS's maximum.
    pub fn quantity_of(&self, steps: u128) -> Quantity {
        let most = Quantity::MAX.0 / self.step_micros;
        let steps = u64::try_from(steps).unwrap_or(most).min(most);
        Quantity(steps.saturating_mul(self.step_micros.get()))
    }
}

/// What becomes of a remainder below a step that no later hour can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    Up,
    /// Rounds down, in the customer's favour.
    #[default]
    Down,
    /// Halves are rounded up.
    Nearest,
}

impl Default for Unit {
    /// One base unit is one billed unit.
    fn default() -> Self {
        let one = NonZeroU64::MIN;
        let micros = NonZeroU64::new(MICROS_PER_UNIT).unwrap_or(one);
        Self { step_base: one, step_micros: micros, decimals: 0 }
    }
}

/// In base units what is billed and what is left to carry; `quantity` is `billed` in AWS's terms. Unless rounded,
/// `billed + rest` is the total that was split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bill {
    pub quantity: Quantity,
    pub billed: u128,
    pub rest: u128,
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while let Some(remainder) = a.checked_rem(b) {
        (a, b) = (b, remainder);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unit(base_units: u64, decimals: u8) -> Unit {
        Unit::new(NonZeroU64::new(base_units).unwrap(), decimals).unwrap()
    }

    #[test]
    fn gigabytes_to_three_places_carry_the_rest() {
        let bill = unit(1_000_000_000, 3).bill(1_234_567_890);
        assert_eq!(bill.quantity.to_string(), "1.234");
        assert_eq!((bill.billed, bill.rest), (1_234_000_000, 567_890));
    }

    #[test]
    fn odd_units_are_billed_in_steps_that_are_exact() {
        let bill = unit(60, 2).bill(100);
        assert_eq!((bill.quantity.to_string(), bill.billed, bill.rest), ("1.65".to_owned(), 99, 1));
        assert_eq!(unit(3, 1).bill(5).quantity.to_string(), "1");
        assert_eq!(unit(1, 6).bill(5).quantity.to_string(), "5");
    }

    #[test]
    fn above_the_maximum_the_most_that_fits_is_billed() {
        let bill = unit(10, 0).bill(u128::MAX);
        assert_eq!(bill.quantity, Quantity::MAX);
        assert_eq!(bill.billed, 21_474_836_470);
        assert_eq!(bill.rest, u128::MAX - 21_474_836_470);
    }

    #[test]
    fn a_last_remainder_is_rounded_as_asked_for() {
        let billed = |total, rounding| {
            let bill = unit(1000, 0).bill_rounded(total, rounding);
            assert_eq!(bill.rest, 0);
            bill.quantity.to_string()
        };
        assert_eq!(billed(1999, Rounding::Down), "1");
        assert_eq!(
            (billed(1001, Rounding::Up), billed(1000, Rounding::Up)),
            ("2".to_owned(), "1".to_owned())
        );
        assert_eq!(
            (billed(1499, Rounding::Nearest), billed(1500, Rounding::Nearest)),
            ("1".into(), "2".into())
        );
        assert_eq!(unit(3, 0).bill_rounded(1, Rounding::Nearest).quantity, Quantity::ZERO);
        assert_eq!(unit(3, 0).bill_rounded(2, Rounding::Nearest).quantity.to_string(), "1");
        let above = unit(1, 0).bill_rounded(2_147_483_650, Rounding::Up);
        assert_eq!((above.quantity, above.rest), (Quantity::MAX, 3), "what does not fit is no remainder");
    }

    #[test]
    fn the_default_unit_is_one() {
        assert_eq!(Unit::default(), unit(1, 0));
    }

    #[test]
    fn quantities_follow_the_grammar_of_aws() {
        for (text, shown) in
            [("0", "0"), ("17.00", "17"), ("0.000001", "0.000001"), ("2147483647", "2147483647")]
        {
            assert_eq!(text.parse::<Quantity>().unwrap().to_string(), shown);
        }
        for text in
            ["", ".5", "5.", "01", "-1", "+1", "1e3", "1.0000001", "2147483647.1", "99999999999", "1 "]
        {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn billing_conserves_and_leaves_less_than_a_unit(base in 1..=u64::MAX, decimals in 0..=6_u8, total: u128) {
            let unit = unit(base, decimals);
            let bill = unit.bill(total);
            prop_assert_eq!(bill.billed.checked_add(bill.rest), Some(total));
            prop_assert!(bill.quantity <= Quantity::MAX);
            // What is billed is exactly what AWS is told: billed / unit == micros / 10^6.
            prop_assert_eq!(bill.billed.checked_mul(1_000_000), u128::from(bill.quantity.micros()).checked_mul(u128::from(base)));
            if bill.rest >= u128::from(base) {
                let steps_left = Quantity::MAX.micros() - bill.quantity.micros();
                prop_assert!(steps_left < unit.step_micros.get(), "a whole unit was carried though it fitted");
            }
        }

        #[test]
        fn quantities_print_and_parse_back(micros in 0..=Quantity::MAX.0) {
            let quantity = Quantity(micros);
            prop_assert_eq!(quantity.to_string().parse::<Quantity>(), Ok(quantity));
        }
    }

    #[test]
    fn the_integer_field_takes_whole_quantities() {
        let whole = |text: &str| text.parse::<Quantity>().unwrap().whole();
        assert_eq!(whole("0"), Some(0));
        assert_eq!(whole("5.000000"), Some(5));
        assert_eq!(whole("1.5"), None);
        assert_eq!(Quantity::MAX.whole(), Some(i32::MAX));
    }

    #[test]
    fn a_unit_with_places_is_told_in_decimals() {
        assert!(!Unit::default().is_decimal());
        assert!(Unit::new(NonZeroU64::MIN, 1).unwrap().is_decimal());
    }

    #[test]
    fn a_whole_step_above_the_largest_quantity_is_not_rounded_away() {
        for rounding in [Rounding::Down, Rounding::Nearest, Rounding::Up] {
            let bill = Unit::default().bill_rounded(u128::from(MAX_WHOLE) + 1, rounding);
            assert_eq!((bill.quantity, bill.rest), (Quantity::MAX, 1));
        }
    }
}
