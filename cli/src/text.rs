//! Everything that people read, in their language.
//!
//! The messages are Fluent resources in `locales/`, built into the program. A message that a language lacks
//! is taken from English; the tests see to it that none is lacking.

use fluent_bundle::{FluentArgs, FluentBundle, FluentResource, FluentValue};
use unic_langid::LanguageIdentifier;

/// The languages, each with its messages.
const ENGLISH: &[&str] = &[include_str!("../locales/en/minka.ftl"), include_str!("../locales/en/help.ftl")];
const SPANISH: &[&str] = &[include_str!("../locales/es/minka.ftl"), include_str!("../locales/es/help.ftl")];

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
    bundle: FluentBundle<FluentResource>,
    english: FluentBundle<FluentResource>,
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
        let own = match language {
            Language::English => bundle("en", ENGLISH),
            Language::Spanish => bundle("es", SPANISH),
        };
        Text { language, bundle: own, english: bundle("en", ENGLISH) }
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
        [&self.bundle, &self.english].into_iter().find_map(|bundle| {
            let pattern = bundle.get_message(id)?.value()?;
            let mut errors = Vec::new();
            Some(bundle.format_pattern(pattern, Some(&arguments), &mut errors).into_owned())
        })
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
