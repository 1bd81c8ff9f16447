//! A crate's public interface as lines of text: one for each thing that a program may name, with its full path, sorted.

use std::collections::{BTreeMap, BTreeSet};

use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{Attribute, Fields, FnArg, ImplItem, Item, ItemImpl, Signature, TraitItem, Type};

use super::source::{Id, Meaning, Source, features, is_for_tests, is_hidden, is_public_vis, name_of};

pub(crate) struct Surface<'a> {
    source: &'a Source,
    krate: &'a str,
    /// The path under which each public item is shown.
    names: BTreeMap<Id, String>,
    /// Each after the path that it is sorted by.
    lines: BTreeSet<(String, String)>,
    /// Names of other crates in what is shown.
    foreign: BTreeSet<String>,
    /// What is looked at.
    owner: String,
    /// What of this project's stands in the interface of each item, by full paths.
    named: Named,
}

/// Items, and what stands in the interface of each, by full paths.
pub(crate) type Named = BTreeMap<String, BTreeSet<String>>;

/// The interface of the crate of this name. Its first lines are the names of other crates that stand in it, apart from
/// the standard library's.
pub(crate) fn surface(krate: &str, source: &Source) -> String {
    let it = read(krate, source);
    let foreign = it.foreign.iter().map(|name| format!("# names {name}\n"));
    foreign.chain(it.lines.iter().map(|(_, line)| format!("{line}\n"))).collect()
}

/// What of this project's stands in the interface of each of the crate's items.
pub(crate) fn named(krate: &str, source: &Source) -> Named {
    read(krate, source).named
}

fn read<'a>(krate: &'a str, source: &'a Source) -> Surface<'a> {
    let mut it = Surface {
        source,
        krate,
        names: BTreeMap::new(),
        lines: BTreeSet::new(),
        foreign: BTreeSet::new(),
        owner: String::new(),
        named: Named::new(),
    };
    let mut found = Vec::new();
    it.find(&[], krate, "", 0, &mut found);
    // An item that can be reached by several paths is shown under the shortest, and as a `use` under the others.
    found.sort_by_key(|(_, path, _): &(Id, String, String)| (path.matches("::").count(), path.clone()));
    let mut items = Vec::new();
    for (id, path, cfg) in found {
        match it.names.get(&id) {
            None => {
                it.names.insert(id.clone(), path.clone());
                items.push((id, path, cfg));
            }
            Some(shown) if *shown != path => {
                let line = format!("pub use {path} = {shown}");
                it.line(&cfg, line);
            }
            Some(_) => {}
        }
    }
    // Each may name any other.
    for (id, path, cfg) in items {
        it.item(&id, &path, &cfg);
    }
    it.impls();
    it
}

impl Surface<'_> {
    fn line(&mut self, cfg: &str, line: String) {
        let path = line.find(&format!("{}::", self.krate)).map_or("~", |at| &line[at..]);
        let path =
            path.split(|c: char| !c.is_alphanumeric() && !matches!(c, ':' | '_')).next().unwrap_or_default().to_owned();
        self.lines.insert((path, if cfg.is_empty() { line } else { format!("{line} [{cfg}]") }));
    }

    /// Every public item that can be reached from this module.
    fn find(&mut self, at: &[String], path: &str, cfg: &str, depth: u8, found: &mut Vec<(Id, String, String)>) {
        let Some(module) = self.source.modules.get(at).filter(|_| depth < 8) else { return };
        for item in &module.items {
            let (Some(name), Some(attrs)) = (name_of(item), public(item)) else { continue };
            if !is_for_tests(attrs) && !is_hidden(attrs) {
                found.push(((at.to_vec(), name.clone()), format!("{path}::{name}"), both(cfg, &features(attrs))));
            }
        }
        for (inner, module) in &self.source.modules {
            if module.is_public && inner.len() == at.len() + 1 && inner.starts_with(at) {
                let path = format!("{path}::{}", inner[at.len()]);
                let cfg = both(cfg, &module.cfg);
                self.line(&cfg, format!("pub mod {path}"));
                self.find(inner, &path, &cfg, depth + 1, found);
            }
        }
        for it in module.uses.iter().filter(|it| it.is_public) {
            let cfg = both(cfg, &it.cfg);
            match self.source.resolve(at, &it.path) {
                Meaning::Item(id) => found.push((id, format!("{path}::{}", it.name), cfg)),
                Meaning::Module(inner) if it.name == "*" => self.find(&inner, path, &cfg, depth + 1, found),
                Meaning::Module(inner) => self.find(&inner, &format!("{path}::{}", it.name), &cfg, depth + 1, found),
                Meaning::Foreign(_) | Meaning::Plain => {
                    self.line(&cfg, format!("pub use {path}::{} = {}", it.name, it.path.join("::")));
                }
            }
        }
    }

    fn item(&mut self, id: &Id, path: &str, cfg: &str) {
        let source = self.source;
        let Some(item) = source.modules[&id.0].items.iter().find(|item| name_of(item).as_ref() == Some(&id.1)) else {
            return;
        };
        let at = &id.0;
        path.clone_into(&mut self.owner);
        match item {
            Item::Struct(it) => {
                let closed = if it.fields.iter().all(|field| is_public_vis(&field.vis)) { "" } else { " { .. }" };
                let (generics, bounds) = (text(&it.generics), text(&it.generics.where_clause));
                self.line(cfg, format!("{}pub struct {path}{generics}{bounds}{closed}", marks(&it.attrs)));
                self.fields(at, path, cfg, &it.fields, true);
                self.derives(path, cfg, &it.attrs);
                self.names_in(at, |names| names.visit_generics(&it.generics));
            }
            Item::Enum(it) => {
                self.line(cfg, format!("{}pub enum {path}{}", marks(&it.attrs), text(&it.generics)));
                for variant in &it.variants {
                    let name = format!("{path}::{}", variant.ident);
                    self.line(cfg, format!("{}{name}{}", marks(&variant.attrs), shape(&variant.fields)));
                    self.fields(at, &name, cfg, &variant.fields, false);
                }
                self.derives(path, cfg, &it.attrs);
            }
            Item::Trait(it) => {
                let supers =
                    if it.supertraits.is_empty() { String::new() } else { format!(": {}", text(&it.supertraits)) };
                self.line(cfg, format!("{}pub trait {path}{}{supers}", marks(&it.attrs), text(&it.generics)));
                for member in &it.items {
                    let (line, provided) = match member {
                        TraitItem::Fn(it) => (signature(path, &it.sig), it.default.is_some()),
                        TraitItem::Type(it) => (format!("type {path}::{}", tail(it, &it.ident)), it.default.is_some()),
                        TraitItem::Const(it) => {
                            (format!("const {path}::{}: {}", it.ident, text(&it.ty)), it.default.is_some())
                        }
                        _ => continue,
                    };
                    self.line(cfg, format!("{line}{}", if provided { " (provided)" } else { "" }));
                    self.names_in(at, |names| names.visit_trait_item(member));
                }
            }
            Item::Fn(it) => {
                let module = path.rsplit_once("::").map_or("", |(module, _)| module);
                self.line(cfg, format!("{}pub {}", marks(&it.attrs), signature(module, &it.sig)));
                self.names_in(at, |names| names.visit_signature(&it.sig));
            }
            Item::Const(it) => {
                self.line(cfg, format!("pub const {path}: {}", text(&it.ty)));
                self.names_in(at, |names| names.visit_type(&it.ty));
            }
            Item::Static(it) => self.line(cfg, format!("pub static {path}: {}", text(&it.ty))),
            Item::Type(it) => {
                self.line(cfg, format!("pub type {path}{} = {}", text(&it.generics), text(&it.ty)));
                self.names_in(at, |names| names.visit_type(&it.ty));
            }
            Item::Macro(_) => self.line(cfg, format!("pub macro {path}")),
            _ => {}
        }
    }

    fn fields(&mut self, at: &[String], path: &str, cfg: &str, fields: &Fields, only_public: bool) {
        for (number, field) in fields.iter().enumerate() {
            if only_public && !is_public_vis(&field.vis) {
                continue;
            }
            let name = field.ident.as_ref().map_or_else(|| number.to_string(), ToString::to_string);
            if only_public {
                self.line(&both(cfg, &features(&field.attrs)), format!("pub {path}::{name}: {}", text(&field.ty)));
            }
            self.names_in(at, |names| names.visit_type(&field.ty));
        }
    }

    fn derives(&mut self, path: &str, cfg: &str, attrs: &[Attribute]) {
        for attr in attrs {
            let Ok(list) = attr.meta.require_list() else { continue };
            let tokens = tidy(&list.tokens.to_string());
            if attr.path().is_ident("derive") {
                self.derived(path, cfg, &tokens);
            } else if attr.path().is_ident("cfg_attr")
                && let Some((condition, rest)) = tokens.split_once(", derive(")
                && let Some((traits, _)) = rest.split_once(')')
            {
                self.derived(path, &both(cfg, condition), traits);
            }
        }
    }

    fn derived(&mut self, path: &str, cfg: &str, traits: &str) {
        let names = traits.split(',').map(str::trim).filter(|name| !name.is_empty());
        let names: BTreeSet<&str> = names
            .flat_map(|name| if name == "thiserror::Error" { vec!["Display", "Error"] } else { vec![name] })
            .collect();
        self.line(cfg, format!("impl {} for {path}", names.into_iter().collect::<Vec<_>>().join(" + ")));
    }

    /// What is implemented for the public types, and the public traits for others'.
    fn impls(&mut self) {
        let source = self.source;
        for (at, module) in &source.modules {
            for item in &module.items {
                let Item::Impl(it) = item else { continue };
                if !is_for_tests(&it.attrs) {
                    self.implemented(at, it, &both(&module.cfg, &features(&it.attrs)));
                }
            }
        }
    }

    fn implemented(&mut self, at: &[String], it: &ItemImpl, cfg: &str) {
        let own = head(&it.self_ty).and_then(|path| self.shown(at, &path));
        self.owner = own.clone().unwrap_or_default();
        if let Some((_, wanted, _)) = &it.trait_ {
            let name: Vec<String> = wanted.segments.iter().map(|segment| segment.ident.to_string()).collect();
            let is_of_public_trait = self.shown(at, &name).is_some();
            if own.is_none() && !is_of_public_trait {
                return;
            }
            // What is implemented for a private type, or in terms of one, is nobody's matter.
            let is_private = |path: &Vec<String>| {
                matches!(self.source.resolve(at, path), Meaning::Item(_)) && self.shown(at, path).is_none()
            };
            let mut names = Names(Vec::new());
            names.visit_type(&it.self_ty);
            names.visit_path(wanted);
            if names.0.iter().any(is_private) {
                return;
            }
            let who = own.clone().map_or_else(|| text(&it.self_ty), |own| format!("{own}{}", arguments(&it.self_ty)));
            let bounds = text(&it.generics.where_clause);
            let generics = if it.generics.params.is_empty() { String::new() } else { text(&it.generics) };
            self.line(cfg, format!("impl{generics} {} for {who}{bounds}", text(wanted)));
            for member in &it.items {
                if let ImplItem::Type(member) = member {
                    self.names_in(at, |names| names.visit_type(&member.ty));
                }
            }
            self.names_in(at, |names| names.visit_path(wanted));
            return;
        }
        let Some(own) = own else { return };
        for member in &it.items {
            match member {
                ImplItem::Fn(member) if is_public_vis(&member.vis) && !is_hidden(&member.attrs) => {
                    let cfg = both(cfg, &features(&member.attrs));
                    let of = arguments(&it.self_ty);
                    let bounds = text(&it.generics.where_clause);
                    let bounds = if it.generics.params.is_empty() {
                        bounds
                    } else {
                        format!(" (impl{}{bounds})", text(&it.generics))
                    };
                    self.line(
                        &cfg,
                        format!(
                            "{}pub {}{bounds}",
                            marks(&member.attrs),
                            signature(&format!("{own}{of}"), &member.sig)
                        ),
                    );
                    self.names_in(at, |names| names.visit_signature(&member.sig));
                }
                ImplItem::Const(member) if is_public_vis(&member.vis) && !is_hidden(&member.attrs) => {
                    let cfg = both(cfg, &features(&member.attrs));
                    self.line(&cfg, format!("pub const {own}::{}: {}", member.ident, text(&member.ty)));
                }
                _ => {}
            }
        }
    }

    /// The path under which what this means is shown.
    fn shown(&self, at: &[String], path: &[String]) -> Option<String> {
        let Meaning::Item(id) = self.source.resolve(at, path) else { return None };
        self.names.get(&id).cloned()
    }

    fn names_in(&mut self, at: &[String], look: impl FnOnce(&mut Names)) {
        let mut names = Names(Vec::new());
        look(&mut names);
        for path in names.0 {
            let named = match self.source.resolve(at, &path) {
                Meaning::Foreign(path) if matches!(path[0].as_str(), "alloc" | "core" | "std") => continue,
                Meaning::Foreign(path) if !path[0].starts_with("steadfast_") => {
                    self.foreign.insert(path.join("::"));
                    continue;
                }
                Meaning::Foreign(path) => path.join("::"),
                // A public signature names no private item, or it would not compile.
                _ => match self.shown(at, &path) {
                    Some(shown) => shown,
                    None => continue,
                },
            };
            self.named.entry(self.owner.clone()).or_default().insert(named);
        }
    }
}

/// The paths in a piece of syntax.
struct Names(Vec<Vec<String>>);

impl Visit<'_> for Names {
    fn visit_path(&mut self, path: &syn::Path) {
        self.0.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_block(&mut self, _: &syn::Block) {}
}

fn public(item: &Item) -> Option<&[Attribute]> {
    let (vis, attrs) = match item {
        Item::Const(it) => (&it.vis, &it.attrs),
        Item::Enum(it) => (&it.vis, &it.attrs),
        Item::Fn(it) => (&it.vis, &it.attrs),
        Item::Static(it) => (&it.vis, &it.attrs),
        Item::Struct(it) => (&it.vis, &it.attrs),
        Item::Trait(it) => (&it.vis, &it.attrs),
        Item::Type(it) => (&it.vis, &it.attrs),
        Item::Macro(it) if it.attrs.iter().any(|attr| attr.path().is_ident("macro_export")) => return Some(&it.attrs),
        _ => return None,
    };
    is_public_vis(vis).then_some(attrs)
}

/// Attributes that are promises.
fn marks(attrs: &[Attribute]) -> String {
    let has = |name| attrs.iter().any(|attr| attr.path().is_ident(name));
    let mut marks = String::new();
    for name in ["deprecated", "must_use", "non_exhaustive"] {
        if has(name) {
            marks.push_str(&format!("#[{name}] "));
        }
    }
    marks
}

fn shape(fields: &Fields) -> String {
    let types = |fields: &Fields| fields.iter().map(|field| text(&field.ty)).collect::<Vec<_>>().join(", ");
    match fields {
        Fields::Unit => String::new(),
        Fields::Unnamed(_) => format!("({})", types(fields)),
        Fields::Named(named) => {
            let fields = named.named.iter().map(|field| {
                format!("{}: {}", field.ident.as_ref().map(ToString::to_string).unwrap_or_default(), text(&field.ty))
            });
            format!(" {{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

fn signature(owner: &str, sig: &Signature) -> String {
    let mut sig = sig.clone();
    // `mut` and the like are the body's matter.
    for input in &mut sig.inputs {
        match input {
            FnArg::Receiver(it) if it.reference.is_none() => it.mutability = None,
            FnArg::Typed(it) => {
                if let syn::Pat::Ident(name) = &mut *it.pat {
                    name.mutability = None;
                }
            }
            FnArg::Receiver(_) => {}
        }
    }
    let name = sig.ident.to_string();
    let text = text(&sig);
    match text.split_once(&format!("fn {name}")) {
        Some((before, after)) => format!("{before}fn {owner}::{name}{after}"),
        None => text,
    }
}

fn tail(it: &impl ToTokens, name: &syn::Ident) -> String {
    let text = text(it);
    let from = text.find(&format!("type {name}")).map_or(0, |at| at + 5);
    text[from..].trim_end_matches(';').to_owned()
}

fn head(ty: &Type) -> Option<Vec<String>> {
    let Type::Path(it) = ty else { return None };
    Some(it.path.segments.iter().map(|segment| segment.ident.to_string()).collect())
}

/// `<'_, T>` of a type.
fn arguments(ty: &Type) -> String {
    let Type::Path(it) = ty else { return String::new() };
    it.path.segments.last().map(|segment| text(&segment.arguments)).unwrap_or_default()
}

fn both(outer: &str, inner: &str) -> String {
    match (outer.is_empty(), inner.is_empty() || outer == inner) {
        (true, _) => inner.to_owned(),
        (_, true) => outer.to_owned(),
        _ => format!("{outer}, {inner}"),
    }
}

fn text(it: &impl ToTokens) -> String {
    let text = tidy(&it.to_token_stream().to_string());
    let text = text.trim_end_matches(',');
    if text.starts_with("where") { format!(" {text}") } else { text.to_owned() }
}

/// Tokens as rustfmt would write them.
fn tidy(tokens: &str) -> String {
    const SPACES: [(&str, &str); 25] = [
        (" :: ", "::"),
        (":: ", "::"),
        (" <", "<"),
        ("< ", "<"),
        (" >", ">"),
        ("& ", "&"),
        (" ,", ","),
        (" :", ":"),
        (" ;", ";"),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        ("[ ", "["),
        (" ]", "]"),
        ("? ", "?"),
        (" !", "!"),
        ("->(", "-> ("),
        ("=(", "= ("),
        (",(", ", ("),
        ("&mut(", "&mut ("),
        (",)", ")"),
        (",>", ">"),
        ("-> <", "-> <"),
        ("dyn(", "dyn ("),
        ("impl(", "impl ("),
    ];
    let mut text = tokens.split_whitespace().collect::<Vec<_>>().join(" ");
    for (from, to) in SPACES {
        text = text.replace(from, to);
    }
    text.replace("->", " -> ").replace("  ", " ")
}
