//! Events of the function (`tracing`) in the log, in the same form as the watchdog's own lines.

use std::fmt::{self, Write as _};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use crate::{
    clock::Utc,
    config::LogFormat,
    log::{JsonStr, Log, Rfc3339, Stamp},
};

/// Writes events, and the fields of the spans that they lie in, to the log.
pub(crate) struct Events {
    log: Log,
    level: Level,
}

impl Events {
    pub(crate) fn new(log: Log, level: Level) -> Self {
        Self { log, level }
    }
}

/// Fields as they will be written, kept with a span.
struct Fields(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Events {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.level
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut fields = Writer::new(self.log.format());
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Fields(fields.rest));
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        let mut fields = Writer::new(self.log.format());
        values.record(&mut fields);
        if let Some(span) = context.span(id)
            && let Some(Fields(known)) = span.extensions_mut().get_mut::<Fields>()
        {
            known.push_str(&fields.rest);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Writer::new(self.log.format());
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(Fields(known)) = span.extensions().get::<Fields>() {
                fields.rest.push_str(known);
            }
        }
        let (level, target, Writer { message, rest, .. }) =
            (event.metadata().level(), event.metadata().target(), fields);
        match self.log.format() {
            LogFormat::Text => {
                let stamp = Stamp(Utc::now());
                self.log.line(format_args!("{stamp} {level} {target}: {message}{rest}"));
            }
            LogFormat::Json => self.log.line(format_args!(
                "{{\"time\":\"{}\",\"level\":\"{level}\",\"target\":{},\"message\":{}{rest}}}",
                Rfc3339(Utc::now()),
                JsonStr(target),
                JsonStr(&message),
            )),
        }
    }
}

/// Collects the message and, ready to be appended to a line, the other fields.
struct Writer {
    format: LogFormat,
    message: String,
    rest: String,
}

impl Writer {
    fn new(format: LogFormat) -> Self {
        Self { format, message: String::new(), rest: String::new() }
    }

    /// `value` is written as it is: a number, or a string quoted already.
    fn field(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = match self.format {
            LogFormat::Text => write!(self.rest, " {}={value}", field.name()),
            LogFormat::Json => write!(self.rest, ",{}:{value}", JsonStr(field.name())),
        };
    }
}

impl Visit for Writer {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            // A line is a line, whatever is in it.
            self.message = match self.format {
                LogFormat::Text => text.replace('\n', "\\n"),
                LogFormat::Json => text,
            };
        } else {
            match self.format {
                LogFormat::Text => self.field(field, format_args!("{}", text.replace('\n', "\\n"))),
                LogFormat::Json => self.field(field, format_args!("{}", JsonStr(&text))),
            }
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.record_debug(field, &format_args!("{value}")),
            _ => self.field(field, format_args!("{}", JsonStr(value))),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() || self.format == LogFormat::Text {
            true => self.field(field, format_args!("{value}")),
            false => self.field(field, format_args!("null")),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::log::Lines;

    fn written(format: LogFormat, events: impl FnOnce()) -> String {
        let lines = Lines::default();
        let log = Log::to(Box::new(lines.clone()), format).unwrap();
        let subscriber = tracing_subscriber::registry().with(Events::new(log.clone(), Level::INFO));
        tracing::subscriber::with_default(subscriber, events);
        log.flush();
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    fn events() {
        let span = tracing::info_span!("job", account = "a\"b");
        let _inside = span.enter();
        tracing::info!(count = 3, ratio = 0.5, "two\nlines");
        tracing::debug!("not asked for");
    }

    #[test]
    fn a_line_of_text_has_message_fields_and_those_of_its_span() {
        let line = written(LogFormat::Text, events);
        let (stamp, rest) = line.split_at("2006/01/02 15:04:05".len());
        assert!(stamp.starts_with("20"), "{line}");
        assert_eq!(rest, " INFO watchdog::events::tests: two\\nlines count=3 ratio=0.5 account=\"a\\\"b\"\n");
    }

    #[test]
    fn a_line_of_json_is_an_object() {
        let line = written(LogFormat::Json, events);
        assert_eq!(line.lines().count(), 1);
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["message"], "two\nlines");
        assert_eq!(object["level"], "INFO");
        assert_eq!(object["count"], 3);
        assert_eq!(object["account"], "a\"b");
    }
}
