//! Reads events from JSON one at a time.
//!
//! They may stand alone, one after the other, in lists, in `{"Records": [...]}` as CloudTrail delivers them, and in
//! `{"Events": [{"CloudTrailEvent": "..."}]}` as `aws cloudtrail lookup-events` prints them.

use std::{fmt, io::Read};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::ByteBudget;

/// The fields of a CloudTrail event that matter here.
#[derive(Debug, Default)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) source: String,
    pub(super) name: String,
    pub(super) time: String,
    pub(super) region: String,
    pub(super) error: String,
    pub(super) identity: Value,
    pub(super) address: String,
    pub(super) user_agent: String,
    pub(super) parameters: Value,
    pub(super) elements: Value,
}

impl Event {
    pub(super) fn is_metering(&self) -> bool {
        self.source == "metering-marketplace.amazonaws.com" && self.name == "BatchMeterUsage"
    }
}

/// Calls `each` with every event of the text. The byte budget begins anew with each element of a list.
pub(super) fn events(
    text: impl Read,
    budget: &ByteBudget,
    mut each: impl FnMut(&Event) -> Result<(), String>,
) -> Result<(), String> {
    let mut deserializer = serde_json::Deserializer::from_reader(text);
    let mut is_empty = true;
    loop {
        budget.renew();
        // `end` looks ahead for the end, and calls anything else a syntax error.
        match deserializer.end() {
            Ok(()) if is_empty => return Err("is empty".to_owned()),
            Ok(()) => return Ok(()),
            Err(error) if error.is_syntax() => {}
            Err(error) => return Err(error.to_string()),
        }
        let node = Node { each: &mut each, budget, is_quoted: false };
        node.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
        is_empty = false;
    }
}

type Each<'s> = &'s mut dyn FnMut(&Event) -> Result<(), String>;

/// An event, or a list or object that holds events.
struct Node<'s> {
    each: Each<'s>,
    budget: &'s ByteBudget,
    /// Whether this is within text that is JSON itself. Such text does not nest.
    is_quoted: bool,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a CloudTrail event or a list of them")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        if self.is_quoted {
            return Err(E::custom("text within the text of an event"));
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let node = Node { is_quoted: true, ..self };
        node.deserialize(&mut deserializer).and_then(|()| deserializer.end()).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        loop {
            let node = Node { each: &mut *self.each, budget: self.budget, is_quoted: self.is_quoted };
            if list.next_element_seed(node)?.is_none() {
                return Ok(());
            }
            self.budget.renew();
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut event = Event::default();
        let mut is_list = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "Records" | "Events" | "CloudTrailEvent" => {
                    is_list = true;
                    let node = Node { each: &mut *self.each, budget: self.budget, is_quoted: self.is_quoted };
                    map.next_value_seed(node)?;
                }
                "requestParameters" => event.parameters = map.next_value()?,
                "responseElements" => event.elements = map.next_value()?,
                "eventID" => event.id = text(&map.next_value()?),
                "eventSource" => event.source = text(&map.next_value()?),
                "eventName" => event.name = text(&map.next_value()?),
                "eventTime" => event.time = text(&map.next_value()?),
                "awsRegion" => event.region = text(&map.next_value()?),
                "userIdentity" => event.identity = map.next_value()?,
                "sourceIPAddress" => event.address = text(&map.next_value()?),
                "userAgent" => event.user_agent = text(&map.next_value()?),
                "errorCode" => event.error = text(&map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match (is_list, event.name.is_empty()) {
            (true, _) => Ok(()),
            (false, true) => {
                Err(A::Error::custom("an object that is neither a CloudTrail event nor a list of them"))
            }
            (false, false) => (self.each)(&event).map_err(A::Error::custom),
        }
    }
}

/// Text and numbers as text, anything else as empty text.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
    }
}
