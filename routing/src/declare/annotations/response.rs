//! Header fields that a route adds to every response.

use std::sync::Arc;

use super::reader::Reader;
use super::value;

/// Fields of one Ingress.
const FIELDS_MAX: usize = 32;
/// Bytes of one value.
const VALUE_BYTES_MAX: usize = 1_024;
/// What says how a message is framed, or about its connection: the edge's own business.
const NOT_OURS: [&str; 8] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];

/// A line for each: `Name: value`. Sorted by name; of several with one name the last counts.
pub(super) fn headers(reader: &mut Reader<'_, '_>) -> Vec<(Arc<str>, Arc<str>)> {
    let fields = reader.lines("response-headers", |lines| {
        let mut fields: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        for line in lines {
            let (name, text) = field(line)?;
            fields.retain(|(known, _)| *known != name);
            fields.push((name, text));
        }
        if fields.len() > FIELDS_MAX {
            return Err(format!("it has {} fields, {FIELDS_MAX} are allowed", fields.len()));
        }
        fields.sort();
        Ok(fields)
    });
    fields.unwrap_or_default()
}

fn field(line: &str) -> Result<(Arc<str>, Arc<str>), String> {
    let (name, text) = line.split_once(':').ok_or_else(|| format!("{line:?} is not `Name: value`"))?;
    let (name, text) = (value::header_name(name.trim_ascii())?, text.trim_ascii());
    if NOT_OURS.contains(&&*name) {
        return Err(format!("{name} is set by the edge alone"));
    }
    let is_shown = |byte: u8| (b' '..=b'~').contains(&byte);
    if text.len() > VALUE_BYTES_MAX || !text.bytes().all(is_shown) {
        return Err(format!("the value of {name} must be at most {VALUE_BYTES_MAX} printable ASCII characters"));
    }
    Ok((name, text.into()))
}
