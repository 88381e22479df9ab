//! What AWS's answer to a batch means for each of its records.

use std::{collections::HashMap, sync::Arc};

use super::{
    backoff,
    culprit::Culprit,
    record::{Delivery, HoldReason, Outcome, Slot},
};
use crate::domain::time::Timestamp;

/// How a call to `BatchMeterUsage` ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// HTTP 200: every record has an answer of its own.
    Answered(Answers),
    /// Refused for its rate; nothing was processed.
    Throttled,
    /// The request did not reach AWS, for instance for want of a connection.
    NotDelivered(Arc<str>),
    /// The request may have been processed: a time-out, a broken connection, a 5xx.
    Lost(Arc<str>),
    /// An exception that a single bad record can cause; nothing was processed.
    BadRecord(Arc<str>),
    /// Some record is outside AWS's window; nothing was processed.
    TooOld(Arc<str>),
    /// AWS does not know the identity of some record, or not at the record's time; nothing was processed.
    UnknownIdentity(Culprit, Arc<str>),
    /// A fault of the set-up (credentials, permissions, product code); nothing was processed.
    Setup(Arc<str>),
}

impl Reply {
    /// What the call was refused for, if it was refused for some of its records.
    pub(crate) const fn culprit(&self) -> Option<Culprit> {
        match self {
            Self::BadRecord(_) | Self::TooOld(_) => Some(Culprit::Record),
            Self::UnknownIdentity(culprit, _) => Some(*culprit),
            Self::Answered(_) | Self::Throttled | Self::NotDelivered(_) | Self::Lost(_) | Self::Setup(_) => {
                None
            }
        }
    }
}

/// The lines of an HTTP 200 by their slot, since their order is not promised.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    lines: HashMap<Slot, RecordAnswer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordAnswer {
    Success {
        receipt: Arc<str>,
    },
    NotSubscribed,
    Duplicate,
    /// A status that AWS may add one day.
    Other(Arc<str>),
    /// Listed under `UnprocessedRecords`: send it again as it is.
    Unprocessed,
}

impl FromIterator<(Slot, RecordAnswer)> for Answers {
    fn from_iter<I: IntoIterator<Item = (Slot, RecordAnswer)>>(lines: I) -> Self {
        Self { lines: lines.into_iter().collect() }
    }
}

/// What to do with one record of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Settle(Outcome),
    Retry(Delivery),
    /// AWS takes it no more, whatever our window says: it has missed its deadline.
    Missed(Delivery),
    /// Some record of the batch is bad: send this one again at once, among fewer.
    Isolate(Delivery),
}

/// The circumstances of an attempt that matter to its verdict.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt<'a> {
    pub slot: &'a Slot,
    /// The delivery before this attempt.
    pub before: &'a Delivery,
    /// Whether the culprit of a refusal was alone in its batch.
    pub alone: bool,
    /// Whether AWS can have found the record too old. It cannot before the record's time has come, and nobody knows
    /// while the clock is in doubt: then AWS may have found it too new.
    pub may_be_late: bool,
    pub deadline: Timestamp,
    pub now: Timestamp,
    /// Uniform over its range.
    pub random: u32,
}

impl Attempt<'_> {
    /// The verdict on this record, given the reply to its batch.
    pub(crate) fn judge(&self, reply: &Reply) -> Verdict {
        match reply {
            Reply::Answered(answers) => match answers.lines.get(self.slot) {
                Some(line) => self.judge_line(line),
                None => self.retry(Doubt::Possible, "AWS's answer does not mention the record"),
            },
            Reply::Throttled => self.retry(Doubt::None, "throttled"),
            Reply::NotDelivered(error) | Reply::Setup(error) => self.retry(Doubt::None, error),
            Reply::Lost(error) => self.retry(Doubt::Possible, error),
            Reply::BadRecord(error) if self.alone => self.hold(HoldReason::Refused, error),
            Reply::UnknownIdentity(_, error) if self.alone => self.hold(HoldReason::UnknownCustomer, error),
            Reply::TooOld(error) if self.alone && self.may_be_late => {
                Verdict::Missed(self.failed(Doubt::None, error))
            }
            Reply::TooOld(error) if self.alone => self.retry(Doubt::None, error),
            Reply::BadRecord(error) | Reply::TooOld(error) | Reply::UnknownIdentity(_, error) => {
                Verdict::Isolate(Delivery { next_attempt: self.now, ..self.failed(Doubt::None, error) })
            }
        }
    }

    fn judge_line(&self, line: &RecordAnswer) -> Verdict {
        match line {
            RecordAnswer::Success { receipt } => {
                Verdict::Settle(Outcome::Accepted { receipt: receipt.clone(), presumed: false })
            }
            RecordAnswer::NotSubscribed => self.hold(HoldReason::NotSubscribed, "AWS: CustomerNotSubscribed"),
            // AWS has a quantity for the slot. After an attempt whose answer was lost it is ours: the record is
            // frozen, so that attempt carried the same one.
            RecordAnswer::Duplicate if self.before.outcome_unknown => {
                Verdict::Settle(Outcome::Accepted { receipt: "".into(), presumed: true })
            }
            RecordAnswer::Duplicate => self.hold(HoldReason::Conflict, "AWS: DuplicateRecord"),
            RecordAnswer::Other(status) => {
                self.retry(Doubt::Possible, &format!("AWS: unknown status `{status}`"))
            }
            RecordAnswer::Unprocessed => self.retry(Doubt::None, "AWS left the record unprocessed"),
        }
    }

    /// Leaves the record to a person. An earlier attempt that AWS may have billed outweighs the reason of this one:
    /// whoever decides must know that billing it elsewhere could bill it twice.
    fn hold(&self, reason: HoldReason, detail: &str) -> Verdict {
        if self.before.outcome_unknown {
            let detail = format!("{}: {detail}", reason.name()).into();
            return Verdict::Settle(Outcome::Held { reason: HoldReason::OutcomeUnknown, detail });
        }
        Verdict::Settle(Outcome::Held { reason, detail: detail.into() })
    }

    fn retry(&self, doubt: Doubt, error: &str) -> Verdict {
        Verdict::Retry(self.failed(doubt, error))
    }

    fn failed(&self, doubt: Doubt, error: &str) -> Delivery {
        let attempts = self.before.attempts.saturating_add(1);
        Delivery {
            attempts,
            // A doubt from before stays: this answer says nothing of that attempt.
            outcome_unknown: self.before.outcome_unknown || doubt == Doubt::Possible,
            next_attempt: backoff::next_attempt(self.now, attempts, self.deadline, self.random),
            last_error: error.into(),
        }
    }
}

/// Whether AWS may have processed the record without our knowing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Doubt {
    None,
    Possible,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::billing::record::tests::sample;

    fn judge(before: &Delivery, alone: bool, reply: &Reply) -> Verdict {
        let slot = sample(1).slot();
        let now = Timestamp::from_seconds(1_000_000);
        let deadline = Timestamp::from_seconds(1_080_000);
        Attempt { slot: &slot, before, alone, may_be_late: true, deadline, now, random: 0 }.judge(reply)
    }

    fn line(line: RecordAnswer) -> Reply {
        Reply::Answered([(sample(1).slot(), line)].into_iter().collect())
    }

    fn retried(verdict: Verdict) -> Delivery {
        match verdict {
            Verdict::Retry(delivery) | Verdict::Missed(delivery) | Verdict::Isolate(delivery) => delivery,
            other @ Verdict::Settle(_) => panic!("{other:?}"),
        }
    }

    fn reason(verdict: &Verdict) -> Option<HoldReason> {
        match verdict {
            Verdict::Settle(Outcome::Held { reason, .. }) => Some(*reason),
            _ => None,
        }
    }

    #[test]
    fn a_lone_record_that_aws_finds_too_old_has_missed_its_deadline() {
        let reply = Reply::TooOld("too old".into());
        assert!(matches!(judge(&Delivery::default(), false, &reply), Verdict::Isolate(_)));
        let Verdict::Missed(delivery) = judge(&Delivery::default(), true, &reply) else {
            panic!("not missed")
        };
        assert!(!delivery.outcome_unknown, "nothing was processed");
        let Verdict::Missed(delivery) = judge(&Delivery::default().attempted(), true, &reply) else {
            panic!("not missed")
        };
        assert!(delivery.outcome_unknown, "but an earlier attempt may have been");
    }

    #[test]
    fn success_settles_with_its_receipt() {
        let verdict =
            judge(&Delivery::default(), false, &line(RecordAnswer::Success { receipt: "r-1".into() }));
        assert_eq!(verdict, Verdict::Settle(Outcome::Accepted { receipt: "r-1".into(), presumed: false }));
    }

    #[test]
    fn a_duplicate_is_ours_only_after_an_unknown_outcome() {
        let unknown = Delivery { outcome_unknown: true, ..Delivery::default() };
        let presumed = judge(&unknown, false, &line(RecordAnswer::Duplicate));
        assert_eq!(presumed, Verdict::Settle(Outcome::Accepted { receipt: "".into(), presumed: true }));
        assert_eq!(
            reason(&judge(&Delivery::default(), false, &line(RecordAnswer::Duplicate))),
            Some(HoldReason::Conflict)
        );
    }

    #[test]
    fn only_answers_that_leave_doubt_make_the_outcome_unknown() {
        let doubtful = [
            Reply::Lost("time-out".into()),
            line(RecordAnswer::Other("New".into())),
            Reply::Answered(Answers::default()),
        ];
        for reply in doubtful {
            assert!(retried(judge(&Delivery::default(), false, &reply)).outcome_unknown, "{reply:?}");
        }
        let certain = [
            Reply::Throttled,
            Reply::NotDelivered("refused".into()),
            Reply::Setup("AccessDenied".into()),
            Reply::BadRecord("ValidationException".into()),
            Reply::UnknownIdentity(Culprit::CustomerHour, "InvalidLicenseException".into()),
            line(RecordAnswer::Unprocessed),
        ];
        for reply in certain {
            assert!(!retried(judge(&Delivery::default(), false, &reply)).outcome_unknown, "{reply:?}");
            let doubt_before = Delivery { outcome_unknown: true, ..Delivery::default() };
            assert!(retried(judge(&doubt_before, false, &reply)).outcome_unknown, "{reply:?} forgot a doubt");
        }
    }

    #[test]
    fn a_bad_record_is_held_only_when_it_stands_alone() {
        let reply = Reply::BadRecord("InvalidLicenseException".into());
        let isolated = judge(&Delivery::default(), false, &reply);
        assert!(
            matches!(&isolated, Verdict::Isolate(delivery) if delivery.next_attempt == Timestamp::from_seconds(1_000_000))
        );
        assert_eq!(reason(&judge(&Delivery::default(), true, &reply)), Some(HoldReason::Refused));
    }

    #[test]
    fn a_record_of_an_unknown_customer_is_held_for_that_only_when_no_one_else_can_be_meant() {
        let reply = Reply::UnknownIdentity(Culprit::Customer, "InvalidCustomerIdentifierException".into());
        assert!(matches!(judge(&Delivery::default(), false, &reply), Verdict::Isolate(_)));
        assert_eq!(reason(&judge(&Delivery::default(), true, &reply)), Some(HoldReason::UnknownCustomer));
    }

    #[test]
    fn a_doubt_about_an_earlier_attempt_outweighs_the_reason_to_hold() {
        let doubt = Delivery { outcome_unknown: true, ..Delivery::default() };
        for reply in [Reply::BadRecord("ValidationException".into()), line(RecordAnswer::NotSubscribed)] {
            assert_eq!(reason(&judge(&doubt, true, &reply)), Some(HoldReason::OutcomeUnknown));
        }
    }

    #[test]
    fn no_number_of_failures_settles_a_record() {
        let mut delivery = Delivery::default();
        for _ in 0..10_000 {
            delivery = retried(judge(&delivery, true, &Reply::Lost("5xx".into())));
        }
        assert_eq!(delivery.attempts, 10_000);
    }
}
