//! Cookies of requests, and the one that keeps a client with its endpoint.

use std::fmt::Write;

use http::{HeaderMap, HeaderValue, header};
use roadstead_routing::settings::{Affinity, SameSite};

/// The first value of the cookie of this name.
pub(super) fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let fields = headers.get_all(header::COOKIE).into_iter().filter_map(|field| field.to_str().ok());
    let mut pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// What a client's cookie says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sent {
    pub(super) number: u64,
    /// Whether the canary took it.
    pub(super) is_canarys: bool,
}

/// Before the number of whom the canary took.
const CANARY: char = 'c';

/// What [`set`] wrote, or nothing if the client made it up.
pub(super) fn sent(headers: &HeaderMap, name: &str) -> Option<Sent> {
    let text = get(headers, name)?;
    let (text, is_canarys) =
        text.strip_prefix(CANARY).filter(|rest| rest.len() == 16).map_or((text, false), |it| (it, true));
    let number = u64::from_str_radix(text, 16).ok().filter(|_| text.len() == 16)?;
    Some(Sent { number, is_canarys })
}

/// `None` if the attributes do not make a header value.
pub(super) fn set(affinity: &Affinity, Sent { number, is_canarys }: Sent) -> Option<HeaderValue> {
    let path = affinity.path.as_deref().unwrap_or("/");
    let mark = if is_canarys { String::from(CANARY) } else { String::new() };
    let mut text = format!("{}={mark}{number:016x}; Path={path}", affinity.cookie);
    if let Some(domain) = &affinity.domain {
        write!(text, "; Domain={domain}").ok()?;
    }
    if let Some(seconds) = affinity.max_age_seconds {
        write!(text, "; Max-Age={seconds}").ok()?;
    }
    if affinity.secure {
        text.push_str("; Secure");
    }
    text.push_str("; HttpOnly");
    text.push_str(match affinity.same_site {
        None => "",
        Some(SameSite::None) => "; SameSite=None",
        Some(SameSite::Lax) => "; SameSite=Lax",
        Some(SameSite::Strict) => "; SameSite=Strict",
    });
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; b=x=y;c"));
        headers.append(header::COOKIE, HeaderValue::from_static("d=00000000000000ff"));
        assert_eq!(get(&headers, "a"), Some("1"));
        assert_eq!(get(&headers, "b"), Some("x=y"));
        assert_eq!(get(&headers, "c"), None);
        let number = |number, is_canarys| Some(Sent { number, is_canarys });
        assert_eq!((sent(&headers, "d"), sent(&headers, "a")), (number(255, false), None));
        headers.append(
            header::COOKIE,
            HeaderValue::from_static("e=c00000000000000ff; f=cc0000000000000ff; g=c0000000000000ff"),
        );
        assert_eq!(
            (sent(&headers, "e"), sent(&headers, "f")),
            (number(255, true), number(0xc000_0000_0000_00ff, true))
        );
        assert_eq!(sent(&headers, "g"), number(0xc000_0000_0000_00ff, false));
    }

    #[test]
    fn a_cookie_has_the_attributes_that_were_asked_for() {
        let mut affinity = Affinity {
            cookie: "route".into(),
            path: None,
            domain: None,
            max_age_seconds: None,
            same_site: None,
            secure: false,
            change_on_failure: false,
            is_balanced: false,
            forgets_canary: false,
        };
        let set = |affinity: &Affinity, number, is_canarys| set(affinity, Sent { number, is_canarys });
        assert_eq!(set(&affinity, 255, false).unwrap(), "route=00000000000000ff; Path=/; HttpOnly");
        assert_eq!(set(&affinity, 255, true).unwrap(), "route=c00000000000000ff; Path=/; HttpOnly");
        affinity.path = Some("/shop".into());
        affinity.domain = Some("example.com".into());
        affinity.max_age_seconds = Some(60);
        affinity.secure = true;
        affinity.same_site = Some(SameSite::None);
        let expected =
            "route=0000000000000001; Path=/shop; Domain=example.com; Max-Age=60; Secure; HttpOnly; SameSite=None";
        assert_eq!(set(&affinity, 1, false).unwrap(), expected);
        affinity.path = Some("/\r\nX: y".into());
        assert_eq!(set(&affinity, 1, false), None);
    }
}
