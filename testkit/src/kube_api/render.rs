//! How objects are shown: in full, as metadata only, or as a table for kubectl.
//!
//! In: the Accept header, stored objects. Out: the JSON that goes to the client. Columns are defined in `columns`.

use serde_json::{Value, json};

use super::columns;
use super::events;
use super::kind::Kind;
use super::list::Page;
use super::query::Query;

/// The form a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object.
    Full,
    /// `PartialObjectMetadata`.
    Metadata,
    /// `Table` of meta.k8s.io/v1, with this in each row.
    Table(RowObject),
}

/// `includeObject` of a table request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowObject {
    /// Nothing.
    None,
    /// The metadata.
    Metadata,
    /// The object.
    Full,
}

/// Whether the client of a watch has seen the columns of its tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    /// Not yet: the next table defines them.
    Wanted,
    /// Yes.
    Known,
}

impl Shape {
    /// Reads the Accept header; the first form that is known wins.
    pub(crate) fn parse(accept: &str, query: &Query) -> Self {
        for choice in accept.split(',') {
            let wants = |name: &str| choice.split(';').any(|part| part.trim().strip_prefix("as=") == Some(name));
            if wants("Table") {
                return Self::Table(match query.get("includeObject") {
                    Some("None") => RowObject::None,
                    Some("Object") => RowObject::Full,
                    _ => RowObject::Metadata,
                });
            }
            if wants("PartialObjectMetadata") || wants("PartialObjectMetadataList") {
                return Self::Metadata;
            }
            if !choice.contains("as=") && choice.trim_start().starts_with("application/json") {
                return Self::Full;
            }
        }
        Self::Full
    }

    /// One object.
    pub(crate) fn object(self, kind: &Kind, stored: &Value) -> Value {
        match self {
            Self::Full => events::from_stored(kind, stored.clone()),
            Self::Metadata => partial(stored),
            Self::Table(row) => table(kind, [stored], row, &stored["metadata"]["resourceVersion"]),
        }
    }

    /// The object of a watch event. Only the first table of a watch defines the columns.
    pub(crate) fn event_object(self, kind: &Kind, stored: &Value, columns: Columns) -> Value {
        let mut shown = self.object(kind, stored);
        if matches!(self, Self::Table(_)) && columns == Columns::Known {
            shown["columnDefinitions"] = json!([]);
        }
        shown
    }

    /// The object of a bookmark.
    pub(crate) fn bookmark_object(self, object: Value) -> Value {
        match self {
            Self::Full => object,
            Self::Metadata => partial(&object),
            Self::Table(_) => json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
                "columnDefinitions": [], "rows": [{"cells": [], "object": partial(&object)}],
            }),
        }
    }

    /// A list.
    pub(crate) fn list(self, kind: &Kind, page: &Page) -> Value {
        let mut metadata = json!({"resourceVersion": page.revision.to_string()});
        if !page.next.is_empty() {
            metadata["continue"] = json!(page.next);
        }
        if let Some(remaining) = page.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
        match self {
            Self::Table(row) => {
                let mut table = table(kind, page.items.iter().map(AsRef::as_ref), row, &Value::Null);
                table["metadata"] = metadata;
                table
            }
            Self::Metadata => json!({
                "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
                "items": page.items.iter().map(|item| partial(item)).collect::<Vec<_>>(),
            }),
            Self::Full => json!({
                "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(), "metadata": metadata,
                "items": page.items.iter().map(|item| list_item(kind, item)).collect::<Vec<_>>(),
            }),
        }
    }
}

/// Items of a list carry no kind and apiVersion, as with a real server.
fn list_item(kind: &Kind, stored: &Value) -> Value {
    let mut item = events::from_stored(kind, stored.clone());
    if let Value::Object(map) = &mut item {
        map.remove("kind");
        map.remove("apiVersion");
    }
    item
}

fn partial(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}

fn table<'a>(kind: &Kind, objects: impl IntoIterator<Item = &'a Value>, row: RowObject, version: &Value) -> Value {
    let rows = objects.into_iter().map(|stored| {
        let object = match row {
            RowObject::None => Value::Null,
            RowObject::Metadata => partial(stored),
            RowObject::Full => events::from_stored(kind, stored.clone()),
        };
        json!({"cells": columns::cells(kind, stored), "object": object})
    });
    let rows: Vec<Value> = rows.collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": version},
        "columnDefinitions": columns::definitions(kind), "rows": rows,
    })
}
