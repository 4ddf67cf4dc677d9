//! Says the same thing once: a server that is away for an hour costs one line of log, not a thousand.

use std::collections::BTreeSet;

/// Causes remembered at once. Beyond this, all are forgotten: some of them may be said again.
const CAUSES_MAX: usize = 16;

/// What one task has complained of since all was well.
#[derive(Debug, Default)]
pub struct Complaint(BTreeSet<String>);

impl Complaint {
    /// Whether `cause` is news, to be logged.
    pub fn is_new(&mut self, cause: &str) -> bool {
        if self.0.contains(cause) {
            return false;
        }
        if self.0.len() >= CAUSES_MAX {
            self.0.clear();
        }
        self.0.insert(cause.to_owned())
    }

    /// All is well again. Whether there was a complaint, so that its end is worth a line.
    pub fn settle(&mut self) -> bool {
        let complained = !self.0.is_empty();
        self.0.clear();
        complained
    }
}

/// An error and its causes in one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        next = cause.source();
    }
    line.replace('\n', "; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_news_once_per_cause() {
        let mut complaint = Complaint::default();
        assert!(!complaint.settle());
        assert!(complaint.is_new("refused"));
        assert!(!complaint.is_new("refused"));
        assert!(complaint.is_new("timed out"));
        assert!(!complaint.is_new("refused"), "two causes that alternate are said once each");
        assert!(complaint.settle());
        assert!(complaint.is_new("timed out"));
        assert!((0..CAUSES_MAX).all(|number| complaint.is_new(&number.to_string())), "what is remembered is bounded");
        assert_eq!(complaint.0.len(), 1);
    }
}
