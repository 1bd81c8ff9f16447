//! Builds requests from `[create]`, `[lookup]` and `[poll]`.
//!
//! Values never become structure: a value filled into a path or a query is percent-encoded, one filled into a header
//! may hold no control character, and one filled into a JSON body is a text there. Every create attempt of one key
//! gives the same bytes, as long as the secrets stay the same.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use serde_json::Value as Json;
use steadfast_core::Kind;

use super::ProfileError;
use super::file::{Table, Value};
use super::pointer::Pointer;
use super::raw::with_key;
use super::template::{Held, Segment, Template};
use super::url::Origins;
use crate::{Ask, BaseUrl, RequestError, structured};

/// One request, with placeholders.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) query: Vec<(Box<str>, Template)>,
    pub(super) headers: Vec<(HeaderName, Template)>,
    pub(super) body: Body,
    pub(super) key: Option<KeyPlace>,
}

/// The URL that a request goes to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// The segments of a path under the base URL.
    Path(Vec<Template>),
    /// The reference is the URL.
    Reference,
}

/// The body of a request.
#[derive(Clone, Debug)]
pub(super) enum Body {
    None,
    Payload,
    Json(JsonTemplate),
}

#[derive(Clone, Debug)]
pub(super) enum JsonTemplate {
    Plain(Json),
    Text(Template),
    List(Vec<Self>),
    Object(Vec<(Box<str>, Self)>),
}

/// Where the idempotency key goes.
#[derive(Clone, Debug)]
pub(super) enum KeyPlace {
    Header { name: HeaderName, quoted: bool },
    Body(Pointer),
    Query(Box<str>),
}

impl Sent {
    /// Reads the request of a table such as `[create]`. `shared` are the headers of all requests.
    pub(super) fn parse(
        table: &Table<'_>,
        kind: Kind,
        shared: &[(HeaderName, Template)],
    ) -> Result<Self, ProfileError> {
        let is_create = kind == Kind::Create;
        let method = match table.get("method") {
            Some(value) => value.word(&["GET", "POST", "PUT", "PATCH"].map(|word| (word, word)))?,
            None if is_create => "POST",
            None => "GET",
        };
        let method = Method::from_bytes(method.as_bytes()).unwrap_or_default();
        let writes = method != Method::GET;
        let target = target(table, kind)?;
        let query = match table.get("query") {
            Some(value) if matches!(target, Target::Reference) => {
                return value.refuse("is not sent: the reference is the whole URL");
            }
            Some(value) => pairs(&value, kind)?,
            None => Vec::new(),
        };
        let mut headers = table.get("headers").map(|value| headers(&value, kind)).transpose()?.unwrap_or_default();
        for (name, template) in shared {
            if !headers.iter().any(|(own, _)| own == name) {
                headers.push((name.clone(), template.clone()));
            }
        }
        let body = match table.get("body") {
            Some(value) => body(&value, kind)?,
            None if is_create && writes => Body::Payload,
            None => Body::None,
        };
        let key = if is_create { table.get("key") } else { None };
        let key = key.map(|value| key_place(&value, &body, &query, &headers)).transpose()?;
        Ok(Self { method, target, query, headers, body, key })
    }

    /// All templates in it, with the field that each stands in.
    pub(super) fn templates(&self) -> Vec<(&'static str, &Template)> {
        let mut all: Vec<(&'static str, &Template)> = Vec::new();
        if let Target::Path(segments) = &self.target {
            all.extend(segments.iter().map(|segment| ("path", segment)));
        }
        all.extend(self.query.iter().map(|(_, value)| ("query", value)));
        all.extend(self.headers.iter().map(|(_, value)| ("headers", value)));
        if let Body::Json(json) = &self.body {
            json.templates(&mut all);
        }
        all
    }

    pub(super) fn bears_key(&self) -> bool {
        self.key.is_some() || self.templates().iter().any(|(_, template)| template.has_key())
    }

    pub(super) fn bears_reference(&self) -> bool {
        matches!(self.target, Target::Reference)
            || self.templates().iter().any(|(_, template)| template.has_reference())
    }

    /// Whether the slashes of a reference divide this request's path into segments.
    pub(super) fn bears_reference_path(&self) -> bool {
        matches!(&self.target, Target::Path(segments) if segments.iter().any(Template::has_reference_path))
    }

    pub(super) fn fill(
        &self,
        ask: &Ask<'_>,
        base: &BaseUrl,
        origins: &Origins,
        secrets: &Held,
    ) -> Result<Request<Bytes>, RequestError> {
        let mut request = Request::new(self.body(ask, secrets)?);
        *request.uri_mut() = self.url(ask, base, origins, secrets)?;
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers(ask, secrets)?;
        Ok(request)
    }

    /// The path as it stands in the file; `None` if the reference is the URL.
    pub(super) fn route(&self, base: &BaseUrl) -> Option<String> {
        let Target::Path(segments) = &self.target else { return None };
        let segments = segments.iter().map(|segment| format!("/{segment}"));
        Some(format!("{}{}", base.prefix(), segments.collect::<String>()))
    }

    fn url(&self, ask: &Ask<'_>, base: &BaseUrl, origins: &Origins, secrets: &Held) -> Result<Uri, RequestError> {
        let segments = match &self.target {
            Target::Reference => {
                let reference = ask.reference.ok_or(RequestError::NoReference)?;
                return origins.url(base, reference.as_str()).ok_or(RequestError::Unsendable("status URL"));
            }
            Target::Path(segments) => segments,
        };
        let fill = |template: &Template| template.fill(ask, secrets);
        let segments: Vec<Vec<Segment<'_>>> =
            segments.iter().map(|segment| segment.segments(ask, secrets)).collect::<Result<_, _>>()?;
        let segments = segments.concat();
        let mut query: Vec<(&str, String)> = Vec::new();
        for (name, value) in &self.query {
            query.push((name, fill(value)?.to_string()));
        }
        if let Some(KeyPlace::Query(name)) = &self.key {
            query.push((name, ask.key.as_str().to_owned()));
        }
        let segments = segments
            .iter()
            .map(|parts| -> Vec<(&str, &str)> { parts.iter().map(|(text, value)| (*text, value.as_str())).collect() });
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        base.join_parts(segments, &query)
    }

    fn headers(&self, ask: &Ask<'_>, secrets: &Held) -> Result<HeaderMap, RequestError> {
        let mut headers = HeaderMap::new();
        for (name, template) in &self.headers {
            let text = template.fill(ask, secrets)?;
            let mut value = HeaderValue::from_str(&text).map_err(|_| RequestError::Unsendable("header"))?;
            value.set_sensitive(!template.is_literal());
            headers.insert(name, value);
        }
        if !matches!(self.body, Body::None) && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(KeyPlace::Header { name, quoted }) = &self.key {
            let text = ask.key.as_str();
            let plain = || HeaderValue::from_str(text).map_err(|_| RequestError::Unsendable("idempotency key"));
            let mut value = if *quoted { structured::string(text) } else { plain() }?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(headers)
    }

    fn body(&self, ask: &Ask<'_>, secrets: &Held) -> Result<Bytes, RequestError> {
        let body = match &self.body {
            Body::None => return Ok(Bytes::new()),
            Body::Payload => ask.payload.bytes().clone(),
            Body::Json(json) => Bytes::from(json.fill(ask, secrets)?.to_string()),
        };
        match &self.key {
            Some(KeyPlace::Body(pointer)) => with_key(&body, pointer, ask.key),
            _ => Ok(body),
        }
    }
}

impl JsonTemplate {
    fn parse(value: &Value<'_>, kind: Kind) -> Result<Self, ProfileError> {
        if value.is_table() {
            let members = value.table()?.entries().into_iter();
            let members = members.map(|(name, value)| {
                let json = Self::parse(&value, kind)?;
                if let Self::Text(text) = &json {
                    refuse_secret(name, text, &value)?;
                }
                Ok((name.into(), json))
            });
            return members.collect::<Result<_, _>>().map(Self::Object);
        }
        if let Some(number) = value.as_integer() {
            return Ok(Self::Plain(number.into()));
        }
        if let Some(flag) = value.as_bool() {
            return Ok(Self::Plain(flag.into()));
        }
        if let Some(number) = value.as_float() {
            return Ok(Self::Plain(number.into()));
        }
        match value.text() {
            Ok(_) => template(value, kind).map(Self::Text),
            Err(_) => {
                value.list()?.iter().map(|item| Self::parse(item, kind)).collect::<Result<_, _>>().map(Self::List)
            }
        }
    }

    fn templates<'t>(&'t self, all: &mut Vec<(&'static str, &'t Template)>) {
        match self {
            Self::Plain(_) => {}
            Self::Text(template) => all.push(("body", template)),
            Self::List(items) => items.iter().for_each(|item| item.templates(all)),
            Self::Object(members) => members.iter().for_each(|(_, value)| value.templates(all)),
        }
    }

    fn fill(&self, ask: &Ask<'_>, secrets: &Held) -> Result<Json, RequestError> {
        Ok(match self {
            Self::Plain(value) => value.clone(),
            Self::Text(template) => template.fill(ask, secrets)?.as_str().into(),
            Self::List(items) => items.iter().map(|item| item.fill(ask, secrets)).collect::<Result<_, _>>()?,
            Self::Object(members) => {
                let filled = members.iter().map(|(name, value)| Ok((name.to_string(), value.fill(ask, secrets)?)));
                Json::Object(filled.collect::<Result<_, _>>()?)
            }
        })
    }
}

pub(super) fn template(value: &Value<'_>, kind: Kind) -> Result<Template, ProfileError> {
    let template = Template::parse(value.text()?, kind).or_else(|problem| value.refuse(problem))?;
    if template.has_reference_path() {
        return value.refuse("has {+reference}, whose slashes divide a path: elsewhere it is {reference}");
    }
    Ok(template)
}

fn target(table: &Table<'_>, kind: Kind) -> Result<Target, ProfileError> {
    if let Some(url) = table.get("url") {
        if table.get("path").is_some() {
            return url.refuse("stands beside a path: a request goes to one of the two");
        }
        if kind != Kind::Poll || url.text()? != "{reference}" {
            return url.refuse("can only be \"{reference}\", in [poll]: all else goes to a path under the base URL");
        }
        return Ok(Target::Reference);
    }
    let path = table.need("path", "the request's path under the base URL, such as \"/v1/jobs\"")?;
    let text = path.text()?;
    let Some(relative) = text.strip_prefix('/') else {
        return path.refuse("does not begin with a slash: a path is relative to the base URL, and names no other host");
    };
    if let Some(bad) = relative.chars().find(|c| matches!(c, '?' | '#' | '%' | '\\') || c.is_control()) {
        return path.refuse(format!("holds {bad:?}: write it plainly, and parameters into query"));
    }
    // A slash within braces belongs to a pointer.
    let mut within = false;
    let outside = |c: char| {
        within = c == '{' || (within && c != '}');
        c == '/' && !within
    };
    let segments: Vec<&str> = relative.split(outside).collect();
    let inner = segments.len().saturating_sub(1);
    let empty = segments.iter().enumerate().any(|(at, segment)| segment.is_empty() && at < inner);
    if empty || segments.iter().any(|segment| matches!(*segment, "." | "..")) {
        return path.refuse("has an empty, '.' or '..' segment: write it plainly");
    }
    let parse = |segment: &&str| Template::parse(segment, kind).or_else(|problem| path.refuse(problem));
    segments.iter().map(parse).collect::<Result<_, _>>().map(Target::Path)
}

fn pairs(value: &Value<'_>, kind: Kind) -> Result<Vec<(Box<str>, Template)>, ProfileError> {
    let entries = value.table()?.entries().into_iter();
    let pair = |(name, value): (&str, Value<'_>)| {
        let template = template(&value, kind)?;
        refuse_secret(name, &template, &value)?;
        Ok((name.into(), template))
    };
    entries.map(pair).collect()
}

/// A table of headers.
pub(super) fn headers(value: &Value<'_>, kind: Kind) -> Result<Vec<(HeaderName, Template)>, ProfileError> {
    let mut headers = Vec::new();
    for (name, value) in value.table()?.entries() {
        let name = sent_header(name, &value)?;
        let template = template(&value, kind)?;
        if value.text()?.chars().any(char::is_control) {
            return value.refuse("holds a control character, which no header can carry");
        }
        refuse_secret(name.as_str(), &template, &value)?;
        if headers.iter().any(|(other, _)| *other == name) {
            return value.refuse("is there twice, since headers know no upper case");
        }
        headers.push((name, template));
    }
    Ok(headers)
}

pub(super) fn header_name(text: &str, place: &Value<'_>) -> Result<HeaderName, ProfileError> {
    let refused = |_| place.refuse(format!("{text:?} is no header's name: it has letters, digits and -"));
    HeaderName::from_bytes(text.as_bytes()).or_else(refused)
}

/// A header name that a request may use.
fn sent_header(text: &str, place: &Value<'_>) -> Result<HeaderName, ProfileError> {
    let name = header_name(text, place)?;
    if [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION].contains(&name) {
        return place.refuse("is written by the HTTP client alone");
    }
    Ok(name)
}

/// Refuses a literal value under a name that suggests a secret.
fn refuse_secret(name: &str, template: &Template, place: &Value<'_>) -> Result<(), ProfileError> {
    let name = name.to_ascii_lowercase().replace('_', "-");
    let words = ["authorization", "api-key", "apikey", "secret", "password", "token", "cookie"];
    if template.is_literal() && words.iter().any(|word| name.contains(word)) {
        return place
            .refuse("is a secret written out: name an environment variable instead, as in \"{env.ACME_API_KEY}\"");
    }
    Ok(())
}

fn body(value: &Value<'_>, kind: Kind) -> Result<Body, ProfileError> {
    if value.is_table() {
        return JsonTemplate::parse(value, kind).map(Body::Json);
    }
    match value.text()? {
        "{payload}" if kind == Kind::Create => Ok(Body::Payload),
        "" => Ok(Body::None),
        _ => value
            .refuse("is neither \"{payload}\" (in [create]), nor \"\" for none, nor a table, which is sent as JSON"),
    }
}

fn key_place(
    value: &Value<'_>,
    body: &Body,
    parameters: &[(Box<str>, Template)],
    headers: &[(HeaderName, Template)],
) -> Result<KeyPlace, ProfileError> {
    let table = value.table_such_as("{ header = \"Idempotency-Key\" }")?;
    let quoted = table.get("quoted");
    let (header, pointer, query) = (table.get("header"), table.get("body"), table.get("query"));
    table.finish()?;
    if let Some(quoted) = &quoted
        && header.is_none()
    {
        return quoted.refuse("is for a key in a header only");
    }
    match (header, pointer, query) {
        (Some(name), None, None) => {
            let quoted = quoted.map_or(Ok(false), |quoted| quoted.boolean())?;
            let header = sent_header(name.text()?, &name)?;
            if headers.iter().any(|(other, _)| *other == header) {
                return name.refuse("is one of headers too, in whose place the key would be sent");
            }
            Ok(KeyPlace::Header { name: header, quoted })
        }
        (None, Some(pointer), None) if matches!(body, Body::None) => pointer.refuse("needs a body, and there is none"),
        (None, Some(value), None) => {
            Pointer::parse(value.text()?).map(KeyPlace::Body).or_else(|problem| value.refuse(problem))
        }
        (None, None, Some(value)) => {
            let name = value.text()?;
            if parameters.iter().any(|(other, _)| **other == *name) {
                return value.refuse("is a parameter of query too: of two, a server takes which it likes");
            }
            Ok(KeyPlace::Query(name.into()))
        }
        _ => value.refuse("needs one of header, body (a JSON Pointer) and query"),
    }
}
