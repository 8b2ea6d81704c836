//! Typed reading of TOML tables that remembers positions, collects mistakes and notices unknown keys.
//!
//! Reading goes on after a mistake with a stand-in value, so that one run reports them all; the platform is given
//! out only when there were none.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeArray, DeInteger, DeTable, DeValue};

use crate::error::{Mistake, NotBuilt};
use crate::registry::{Kind, Registry};
use crate::text::Lines;
use crate::value::{Wrong, meant};

/// Mistakes (and, apart, keys not built) that are reported of one file; what comes after them is not.
const MISTAKES_MAX: usize = 1000;

/// What a reading of one file gathers.
pub struct Reader<'t> {
    lines: Lines<'t>,
    pub folder: PathBuf,
    pub mistakes: Vec<Mistake>,
    pub not_built: Vec<NotBuilt>,
    registry: Registry,
}

impl<'t> Reader<'t> {
    pub fn new(text: &'t str, folder: PathBuf) -> Self {
        Self {
            lines: Lines::new(text),
            folder,
            mistakes: Vec::new(),
            not_built: Vec::new(),
            registry: Registry::default(),
        }
    }

    /// Notes a mistake at an offset of the text.
    pub fn mistake(&mut self, offset: usize, what: impl Into<String>, hint: impl Into<String>) {
        if self.mistakes.len() < MISTAKES_MAX {
            let position = self.lines.position(offset);
            self.mistakes.push(Mistake { position, what: what.into(), hint: hint.into() });
        }
    }

    /// Notes that something is asked for that is not built yet.
    pub fn not_built(&mut self, offset: usize, what: impl Into<String>) {
        if self.not_built.len() < MISTAKES_MAX {
            let position = self.lines.position(offset);
            self.not_built.push(NotBuilt { position, what: what.into() });
        }
    }

    /// Takes the value, or notes what is wrong with it.
    pub fn accept<T>(&mut self, offset: usize, value: Result<T, Wrong>) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(Wrong { what, hint }) => {
                self.mistake(offset, what, hint);
                None
            }
        }
    }

    /// Notes a mistake when this thing was there already; true when it was not.
    //= spec/platform-file.md#uniqueness
    //# Names, numbers, ids, serials, MAC addresses, IP addresses of a LAN, interface names of a node, key files, state
    //# directories and sockets MUST be unique.
    pub fn claim(&mut self, kind: Kind, scope: usize, text: impl Into<String>, offset: usize) -> bool {
        let text = text.into();
        let Err(first) = self.registry.claim(kind, scope, text.clone(), offset) else { return true };
        let line = self.lines.position(first).line;
        let words = kind.words();
        self.mistake(
            offset,
            format!("the {words} {text:?} is already used on line {line}"),
            format!("give it another {words}, or remove one of the two"),
        );
        false
    }
}

/// A table of the file, with what has been asked of it.
pub struct Table<'v> {
    entries: &'v DeTable<'v>,
    /// Offset of its header or opening brace.
    pub offset: usize,
    /// How messages call it, such as `[[node]]`.
    pub title: &'static str,
    asked: Vec<&'static str>,
}

/// A value of the file, and where it stands.
#[derive(Clone, Copy)]
pub struct Value<'v> {
    /// What messages call it: its key.
    pub key: &'v str,
    /// Offset of its first octet.
    pub offset: usize,
    value: &'v DeValue<'v>,
}

impl<'v> Table<'v> {
    pub fn new(entries: &'v DeTable<'v>, offset: usize, title: &'static str) -> Self {
        Self { entries, offset, title, asked: Vec::new() }
    }

    /// The value of a key, if it is there.
    pub fn optional(&mut self, key: &'static str) -> Option<Value<'v>> {
        self.asked.push(key);
        self.entries.get_key_value(key).map(|(key, value)| Value::new(key.get_ref(), value))
    }

    /// The value of a key that must be there.
    pub fn required(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        example: &str,
    ) -> Option<Value<'v>> {
        let value = self.optional(key);
        if value.is_none() {
            reader.mistake(
                self.offset,
                format!("{} has no `{key}`", self.title),
                format!("add it, such as: {key} = {example}"),
            );
        }
        value
    }

    /// The value of a section that must be there; `content` says what would stand in it.
    pub fn required_section(
        &mut self,
        reader: &mut Reader<'_>,
        key: &'static str,
        title: &str,
        content: &str,
    ) -> Option<Value<'v>> {
        let value = self.optional(key);
        if value.is_none() {
            let hint = format!("add a section {title} with {content}");
            reader.mistake(self.offset, format!("there is no {title} section"), hint);
        }
        value
    }

    /// All entries, in file order, for tables whose keys are names: (key, offset of the key, value).
    pub fn entries(&self) -> Vec<(&'v str, usize, Value<'v>)> {
        let mut entries: Vec<_> = self
            .entries
            .iter()
            .map(|(key, value)| {
                let name: &str = key.get_ref();
                (name, key.span().start, Value::new(name, value))
            })
            .collect();
        entries.sort_by_key(|(_, offset, _)| *offset);
        entries
    }

    /// Notes every key that nobody asked for.
    //= spec/platform-file.md#unknown-keys
    //# An unknown key MUST be a mistake.
    pub fn finish(self, reader: &mut Reader<'_>) {
        for (key, offset, _) in self.entries() {
            if reader.mistakes.len() >= MISTAKES_MAX {
                return;
            }
            if self.asked.contains(&key) {
                continue;
            }
            let hint = match meant(key, self.asked.iter().copied()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("keys here are {}", self.asked.join(", ")),
            };
            reader.mistake(offset, format!("unknown key `{}` in {}", key.escape_debug(), self.title), hint);
        }
    }
}

impl<'v> Value<'v> {
    fn new(key: &'v str, value: &'v Spanned<DeValue<'v>>) -> Self {
        Self { key, offset: value.span().start, value: value.get_ref() }
    }

    fn wrong_type(&self, reader: &mut Reader<'_>, expected: &str) {
        let is = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let key = self.key.escape_debug();
        reader.mistake(self.offset, format!("`{key}` is {is}"), format!("`{key}` takes {expected}"));
    }

    /// The value as a string.
    pub fn string(&self, reader: &mut Reader<'_>) -> Option<&'v str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => {
                self.wrong_type(reader, "a string");
                None
            }
        }
    }

    /// The value as true or false.
    pub fn boolean(&self, reader: &mut Reader<'_>) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => {
                self.wrong_type(reader, "true or false");
                None
            }
        }
    }

    /// The value as an integer within `range`.
    pub fn integer(&self, reader: &mut Reader<'_>, range: RangeInclusive<u64>) -> Option<u64> {
        let (low, high) = range.clone().into_inner();
        let DeValue::Integer(integer) = self.value else {
            self.wrong_type(reader, &format!("an integer from {low} to {high}"));
            return None;
        };
        let value = integer_value(integer).filter(|value| range.contains(value));
        if value.is_none() {
            reader.mistake(
                self.offset,
                format!("`{}` is out of range: {integer}", self.key),
                format!("`{}` takes an integer from {low} to {high}", self.key),
            );
        }
        value
    }

    /// The value as an integer of 16 bits within `range`.
    pub fn integer16(&self, reader: &mut Reader<'_>, range: RangeInclusive<u16>) -> Option<u16> {
        let (low, high) = range.into_inner();
        self.integer(reader, low.into()..=high.into()).and_then(|value| u16::try_from(value).ok())
    }

    /// The value as one of a set of words.
    //= spec/platform-file.md#words
    //# A word that is not one of a key's words MUST be a mistake whose hint names the nearest one or all of them.
    pub fn choice<T: Copy>(&self, reader: &mut Reader<'_>, words: &[(&str, T)]) -> Option<T> {
        let text = self.string(reader)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let names = || words.iter().map(|(word, _)| *word);
        let all = names().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let hint = match meant(text, names()) {
            Some(word) => format!("did you mean \"{word}\"? `{}` takes one of {all}", self.key),
            None => format!("`{}` takes one of {all}", self.key),
        };
        reader.mistake(self.offset, format!("{text:?} is not a word that `{}` takes", self.key), hint);
        None
    }

    /// The value as words of a set: one of them or a list.
    pub fn choices<T: Copy>(&self, reader: &mut Reader<'_>, words: &[(&str, T)]) -> Vec<T> {
        match self.value {
            DeValue::Array(array) => {
                items(self.key, array).iter().filter_map(|item| item.choice(reader, words)).collect()
            }
            _ => self.choice(reader, words).into_iter().collect(),
        }
    }

    /// The value as strings: one string or a list of them.
    pub fn strings(&self, reader: &mut Reader<'_>) -> Vec<(&'v str, usize)> {
        match self.value {
            DeValue::Array(array) => {
                let values = items(self.key, array);
                values.iter().filter_map(|item| Some((item.string(reader)?, item.offset))).collect()
            }
            DeValue::String(text) => vec![(text, self.offset)],
            _ => {
                self.wrong_type(reader, "a string or a list of strings");
                Vec::new()
            }
        }
    }

    /// The value as a table.
    pub fn table(&self, reader: &mut Reader<'_>, title: &'static str) -> Option<Table<'v>> {
        match self.value {
            DeValue::Table(entries) => Some(Table::new(entries, self.offset, title)),
            _ => {
                self.wrong_type(reader, "a table");
                None
            }
        }
    }

    /// True when the value is a table.
    pub fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    /// True when the value is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.value, DeValue::Array(_))
    }

    /// The value as a list of tables.
    pub fn tables(&self, reader: &mut Reader<'_>, title: &'static str) -> Vec<Table<'v>> {
        let DeValue::Array(array) = self.value else {
            self.wrong_type(reader, &format!("a list of tables: write each as {title}"));
            return Vec::new();
        };
        items(self.key, array).iter().filter_map(|item| item.table(reader, title)).collect()
    }
}

fn items<'v>(key: &'v str, array: &'v DeArray<'v>) -> Vec<Value<'v>> {
    array.iter().map(|item| Value::new(key, item)).collect()
}

fn integer_value(integer: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}
