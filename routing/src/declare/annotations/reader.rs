//! Hands out annotations by name, each once, and reports values that cannot be read.
//!
//! Both families have the same names; a `roadstead.dev/` one wins over its `nginx.ingress.kubernetes.io/` twin.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::declare::{Declared, shortened};
use crate::finding::{Code, Severity};
use crate::limit;

const NGINX_PREFIX: &str = "nginx.ingress.kubernetes.io/";
const OWN_PREFIX: &str = "roadstead.dev/";

pub(super) struct Reader<'a, 'd> {
    /// By name without prefix: the key as written, and the value.
    left: BTreeMap<&'a str, (&'a str, &'a str)>,
    declared: &'d mut Declared,
}

impl<'a, 'd> Reader<'a, 'd> {
    pub(super) fn new(annotations: &'a BTreeMap<Arc<str>, Arc<str>>, declared: &'d mut Declared) -> Self {
        let mut left = BTreeMap::new();
        for prefix in [NGINX_PREFIX, OWN_PREFIX] {
            let of_family =
                annotations.iter().filter_map(|(key, value)| Some((key.strip_prefix(prefix)?, (&**key, &**value))));
            left.extend(of_family);
        }
        Self { left, declared }
    }

    /// The value as `parse` reads it. `None` if there is none, or if it cannot be read, which is reported.
    pub(super) fn value<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        self.read(name, parse, "it is ignored").and_then(Result::ok)
    }

    /// As [`Self::value`], for one without which nobody may enter: the caller is told that there was one.
    pub(super) fn checked<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Result<T, ()>> {
        self.read(name, parse, "what it protects is closed to all")
    }

    fn read<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
        effect: &str,
    ) -> Option<Result<T, ()>> {
        let (key, value) = self.left.remove(name)?;
        let parsed = check_text(value).and_then(|()| parse(value.trim_ascii()));
        Some(parsed.map_err(|why| self.invalid(key, &why, effect)))
    }

    /// As [`Self::value`], of lines.
    pub(super) fn lines<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&mut dyn Iterator<Item = &str>) -> Result<T, String>,
    ) -> Option<T> {
        let (key, value) = self.left.remove(name)?;
        let checked = value.lines().try_for_each(check_text);
        let mut lines = value.lines().map(str::trim_ascii).filter(|line| !line.is_empty());
        let parsed = checked.and_then(|()| parse(&mut lines));
        parsed.map_err(|why| self.invalid(key, &why, "it is ignored")).ok()
    }

    pub(super) fn flag(&mut self, name: &str) -> Option<bool> {
        self.value(name, |value| match value {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("it must be \"true\" or \"false\"".to_owned()),
        })
    }

    /// Whether there is one of this name, which is reported as refused.
    pub(super) fn refuses(&mut self, name: &str, effect: &str) -> bool {
        let Some((key, _)) = self.left.remove(name) else { return false };
        let message = format!("annotation {} is not supported: {effect}", shortened(key));
        let remedy = "Remove the annotation or do without its effect.";
        self.declared.note(Code::UnsupportedAnnotation, Severity::Error, message, remedy);
        true
    }

    /// Reports something about an annotation that was handed out.
    pub(super) fn note(&mut self, name: &str, severity: Severity, effect: &str) {
        let message = format!("annotation {name}: {effect}");
        let remedy = "Remove the annotation or do without its effect.";
        self.declared.note(Code::UnsupportedAnnotation, severity, message, remedy);
    }

    /// Name, key as written and value of what nobody asked for.
    pub(super) fn rest(self) -> BTreeMap<&'a str, (&'a str, &'a str)> {
        self.left
    }

    fn invalid(&mut self, key: &str, why: &str, effect: &str) {
        let message = format!("annotation {}: {why}; {effect}", shortened(key));
        let remedy = "Correct the value or remove the annotation.";
        self.declared.note(Code::InvalidAnnotation, Severity::Warning, message, remedy);
    }
}

fn check_text(value: &str) -> Result<(), String> {
    if value.len() > limit::ANNOTATION_BYTES_MAX {
        return Err(format!("it is longer than {} bytes", limit::ANNOTATION_BYTES_MAX));
    }
    if value.chars().any(char::is_control) {
        return Err("it contains a control character".into());
    }
    Ok(())
}
