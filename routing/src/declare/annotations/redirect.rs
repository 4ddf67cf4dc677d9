//! Requests that are answered by sending the client elsewhere (rows 1, 15, 16).

use crate::settings::{ClientSettings, Redirect, RedirectTo};

use super::reader::Reader;
use super::{RedirectToHttps, value};

pub(super) fn https(reader: &mut Reader<'_, '_>) -> RedirectToHttps {
    let (always, with_tls) = (reader.flag("force-ssl-redirect"), reader.flag("ssl-redirect"));
    match (always, with_tls) {
        (Some(true), _) => RedirectToHttps::Always,
        (_, Some(false)) => RedirectToHttps::Never,
        _ => RedirectToHttps::WithTls,
    }
}

/// A temporal redirect wins over a permanent one, as in ingress-nginx.
pub(super) fn read(reader: &mut Reader<'_, '_>, client: &mut ClientSettings) {
    client.app_root = reader.value("app-root", value::path);
    let permanent = one(reader, "permanent-redirect", "permanent-redirect-code", 301);
    let temporal = one(reader, "temporal-redirect", "temporal-redirect-code", 302);
    client.redirect = temporal.or(permanent);
    client.all_down = reader.value("all-down", value::all_down);
}

fn one(reader: &mut Reader<'_, '_>, name: &str, code: &str, default: u16) -> Option<Redirect> {
    let to = reader.value(name, |value| if value.starts_with('/') { value::path(value) } else { value::url(value) });
    let status = reader.value(code, |value| value::number(value, 300..=308));
    let status = status.and_then(|status| u16::try_from(status).ok()).unwrap_or(default);
    to.map(|to| Redirect { to: RedirectTo::Url(to), status })
}
