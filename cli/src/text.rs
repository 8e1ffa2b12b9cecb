//! Everything that people read, in their language.
//!
//! The messages are Fluent resources in `locales/`, built into the program. A message that a language lacks
//! is taken from English; the tests see to it that none is lacking.

use std::cell::OnceCell;

use fluent_bundle::{FluentArgs, FluentBundle, FluentResource, FluentValue};
use unic_langid::LanguageIdentifier;

/// The languages, each with its messages.
const ENGLISH: &[&str] = &[
    include_str!("../locales/en/minka.ftl"),
    include_str!("../locales/en/help.ftl"),
    include_str!("../locales/en/xpu.ftl"),
    include_str!("../locales/en/sim.ftl"),
    include_str!("../locales/en/openmosix.ftl"),
];
const SPANISH: &[&str] = &[
    include_str!("../locales/es/minka.ftl"),
    include_str!("../locales/es/help.ftl"),
    include_str!("../locales/es/xpu.ftl"),
    include_str!("../locales/es/sim.ftl"),
    include_str!("../locales/es/openmosix.ftl"),
];

/// A language that Minka speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    Spanish,
}

impl Language {
    /// What the locale variables ask for, the strongest first as POSIX has it.
    fn from_variables(value: impl Fn(&str) -> Option<String>) -> Self {
        let variables = ["LC_ALL", "LC_MESSAGES", "LANG"];
        let locale = variables.into_iter().filter_map(value).find(|value| !value.is_empty());
        match locale {
            Some(locale) if locale.split(['_', '.', '@', '-']).next() == Some("es") => Language::Spanish,
            _ => Language::English,
        }
    }
}

/// The messages of a language.
pub(crate) struct Text {
    language: Language,
    /// Read when something is to be said: most commands that start programs say nothing.
    own: OnceCell<FluentBundle<FluentResource>>,
    english: OnceCell<FluentBundle<FluentResource>>,
}

impl std::fmt::Debug for Text {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Text").field(&self.language).finish()
    }
}

impl Text {
    /// The messages of the language that the environment asks for.
    pub(crate) fn from_environment() -> Self {
        Text::new(Language::from_variables(|name| std::env::var(name).ok()))
    }

    pub(crate) fn new(language: Language) -> Self {
        Text { language, own: OnceCell::new(), english: OnceCell::new() }
    }

    pub(crate) fn language(&self) -> Language {
        self.language
    }

    /// A message without variables.
    pub(crate) fn get(&self, id: &str) -> String {
        self.with(id, &[])
    }

    /// A message with variables.
    pub(crate) fn with(&self, id: &str, variables: &[(&str, FluentValue<'_>)]) -> String {
        self.find(id, variables).unwrap_or_else(|| id.to_owned())
    }

    /// A message, if there is one.
    pub(crate) fn find(&self, id: &str, variables: &[(&str, FluentValue<'_>)]) -> Option<String> {
        let arguments: FluentArgs<'_> =
            variables.iter().map(|(name, value)| (*name, value.clone())).collect();
        let say = |bundle: &FluentBundle<FluentResource>| {
            let pattern = bundle.get_message(id)?.value()?;
            let mut errors = Vec::new();
            Some(bundle.format_pattern(pattern, Some(&arguments), &mut errors).into_owned())
        };
        let own = match self.language {
            Language::English => None,
            Language::Spanish => say(self.own.get_or_init(|| bundle("es", SPANISH))),
        };
        own.or_else(|| say(self.english.get_or_init(|| bundle("en", ENGLISH))))
    }
}

fn bundle(language: &str, sources: &[&str]) -> FluentBundle<FluentResource> {
    let language: LanguageIdentifier = language.parse().unwrap_or_default();
    let mut bundle = FluentBundle::new(vec![language]);
    // No marks around variables: the text goes to terminals and files, and is written left to right.
    bundle.set_use_isolating(false);
    for source in sources {
        // The tests see to it that the resources have neither errors nor names that occur twice.
        let resource = FluentResource::try_new((*source).to_owned()).unwrap_or_else(|(resource, _)| resource);
        let _ = bundle.add_resource(resource);
    }
    bundle
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// The variables of each message; panics when a resource cannot be read or a name occurs twice.
    fn messages(sources: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
        let mut messages = BTreeMap::new();
        for source in sources {
            FluentResource::try_new((*source).to_owned()).unwrap();
            for part in source.split("\n").collect::<Vec<_>>().chunk_by(|_, next| !starts_message(next)) {
                let Some((id, _)) = part[0].split_once(" =").filter(|_| starts_message(part[0])) else {
                    continue;
                };
                let text = part.join("\n");
                let variables = text.split('$').skip(1).map(|rest| {
                    rest.chars().take_while(|character| character.is_ascii_alphanumeric()).collect()
                });
                assert!(messages.insert(id.to_owned(), variables.collect()).is_none(), "{id} occurs twice");
            }
        }
        messages
    }

    fn starts_message(line: &str) -> bool {
        line.starts_with(|character: char| character.is_ascii_lowercase()) && line.contains(" =")
    }

    #[test]
    fn both_languages_have_the_same_messages_with_the_same_variables() {
        let (english, spanish) = (messages(ENGLISH), messages(SPANISH));
        assert!(english.len() > 100, "{}", english.len());
        assert_eq!(english, spanish);
    }

    #[test]
    fn the_strongest_variable_that_is_set_chooses_the_language() {
        let check = |variables: &[(&str, &str)], expected| {
            let value = |name: &str| {
                let found = variables.iter().find(|(variable, _)| *variable == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(Language::from_variables(value), expected, "{variables:?}");
        };
        check(&[], Language::English);
        check(&[("LANG", "es")], Language::Spanish);
        check(&[("LANG", "es_PE.UTF-8")], Language::Spanish);
        check(&[("LANG", "es@euro")], Language::Spanish);
        check(&[("LANG", "est_EE")], Language::English);
        check(&[("LANG", "es"), ("LC_ALL", "C")], Language::English);
        check(&[("LANG", "es"), ("LC_MESSAGES", "en_GB")], Language::English);
        check(&[("LANG", "en"), ("LC_MESSAGES", "es_ES"), ("LC_ALL", "")], Language::Spanish);
    }

    #[test]
    fn numbers_choose_the_form_of_a_word() {
        let text = Text::new(Language::English);
        let lost = |lines: u64| text.with("trace-lost", &[("lines", lines.into())]);
        assert_eq!((lost(1).as_str(), lost(2).as_str()), ("... one line left out", "... 2 lines left out"));
    }
}
