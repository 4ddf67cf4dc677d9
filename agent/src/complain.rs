//! Says the same thing once: a server that is away for an hour costs one line of log, not a thousand.

/// The last complaint of one task.
#[derive(Debug, Default)]
pub struct Complaint(Option<String>);

impl Complaint {
    /// Whether `cause` is news, to be logged.
    pub fn is_new(&mut self, cause: &str) -> bool {
        if self.0.as_deref() == Some(cause) {
            return false;
        }
        self.0 = Some(cause.to_owned());
        true
    }

    /// All is well again. Whether there was a complaint, so that its end is worth a line.
    pub fn settle(&mut self) -> bool {
        self.0.take().is_some()
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
        assert!(complaint.settle());
        assert!(complaint.is_new("timed out"));
    }
}
