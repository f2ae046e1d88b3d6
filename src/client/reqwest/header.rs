use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderName, HeaderValue,
    header::{AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION},
};

use crate::error::InvalidSetting;

/// Headers whose values are secrets whoever sets them: never shown, never put into a compression table.
const SECRET_HEADERS: [HeaderName; 3] = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE];

/// Reads name and value; neither a value nor what may be one is shown in the error.
pub(super) fn header<V: TryInto<HeaderValue>>(
    name: &str,
    value: V,
) -> Result<(HeaderName, HeaderValue), InvalidSetting> {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        let allowed = "letters, digits and the signs that RFC 9110, 5.6.2 lists";
        return Err(InvalidSetting::new(
            "header name",
            shown_name(name),
            allowed,
        ));
    };
    match value.try_into() {
        Ok(value) => Ok((name.clone(), guarded(&name, value))),
        Err(_) => Err(InvalidSetting::new(
            "header value",
            format!("the one given for {name}, which is not shown"),
            "visible characters, spaces and tabs",
        )),
    }
}

/// The part of a name before what is wrong with it: behind that may stand a value.
fn shown_name(name: &str) -> String {
    let token = |byte: char| byte.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(byte);
    match name.char_indices().find(|(_, byte)| !token(*byte)) {
        Some((at, wrong)) => format!("{:?} followed by {wrong:?}", &name[..at]),
        None if name.is_empty() => "empty".to_owned(),
        None => format!("{} bytes long", name.len()),
    }
}

/// Marks a value that is a secret.
pub(super) fn guarded(name: &HeaderName, mut value: HeaderValue) -> HeaderValue {
    if SECRET_HEADERS.contains(name) {
        value.set_sensitive(true);
    }
    value
}

/// The value of `Authorization` for user and password (RFC 7617).
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
