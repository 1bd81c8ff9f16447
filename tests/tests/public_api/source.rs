//! A crate as its sources have it: its modules, and what a name means in each.
//!
//! Only what a public interface needs is understood: modules in files, `use`, and impl blocks. Macros are not expanded;
//! no crate here makes public items with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use quote::ToTokens;
use syn::{Attribute, Item, UseTree, Visibility};

/// Where an item is defined: its module's path in the crate, and its name.
pub(crate) type Id = (Vec<String>, String);

/// A crate's modules by their paths; the root's is empty.
pub(crate) struct Source {
    pub(crate) modules: BTreeMap<Vec<String>, Module>,
}

pub(crate) struct Module {
    pub(crate) is_public: bool,
    pub(crate) cfg: String,
    pub(crate) items: Vec<Item>,
    pub(crate) uses: Vec<Use>,
}

/// One leaf of a `use`.
pub(crate) struct Use {
    pub(crate) is_public: bool,
    pub(crate) cfg: String,
    pub(crate) path: Vec<String>,
    /// What it is called here; `*` for all of them.
    pub(crate) name: String,
}

/// What a path leads to.
pub(crate) enum Meaning {
    /// An item of this crate.
    Item(Id),
    /// A module of this crate.
    Module(Vec<String>),
    /// Something of another crate, by its full path.
    Foreign(Vec<String>),
    /// A generic parameter, a primitive, or something of the prelude.
    Plain,
}

impl Meaning {
    pub(crate) const fn is_something(&self) -> bool {
        !matches!(self, Self::Plain)
    }
}

impl Source {
    /// Reads the crate whose root this is.
    pub(crate) fn read(root: &Path) -> Self {
        let mut source = Self { modules: BTreeMap::new() };
        let folder = root.parent().expect("a root has a folder").to_owned();
        let file = parse(root);
        source.add(Vec::new(), &folder, true, String::new(), file.items);
        source
    }

    fn add(&mut self, path: Vec<String>, folder: &Path, is_public: bool, cfg: String, items: Vec<Item>) {
        let mut module = Module { is_public, cfg, items: Vec::new(), uses: Vec::new() };
        for item in items {
            match item {
                Item::Mod(it) if !is_for_tests(&it.attrs) => {
                    let name = it.ident.to_string();
                    let mut inner = path.clone();
                    inner.push(name.clone());
                    let items = it.content.map(|(_, items)| items).unwrap_or_else(|| {
                        let beside = [folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs")];
                        let file = beside.into_iter().find(|path| path.exists());
                        parse(&file.unwrap_or_else(|| panic!("no file for the module {name} in {}", folder.display())))
                            .items
                    });
                    self.add(inner, &folder.join(&name), is_public_vis(&it.vis), features(&it.attrs), items);
                }
                Item::Use(it) if !is_for_tests(&it.attrs) => {
                    let (is_public, cfg) = (is_public_vis(&it.vis) && !is_hidden(&it.attrs), features(&it.attrs));
                    leaves(&it.tree, Vec::new(), &mut |path, name| {
                        module.uses.push(Use { is_public, cfg: cfg.clone(), path, name });
                    });
                }
                other => module.items.push(other),
            }
        }
        self.modules.insert(path, module);
    }

    /// What `path` means in the module `at`.
    pub(crate) fn resolve(&self, at: &[String], path: &[String]) -> Meaning {
        self.resolve_within(at, path, 8)
    }

    fn resolve_within(&self, at: &[String], path: &[String], depth: u8) -> Meaning {
        let Some((first, rest)) = path.split_first() else { return Meaning::Module(at.to_vec()) };
        if depth == 0 {
            return Meaning::Plain;
        }
        match first.as_str() {
            "crate" => return self.resolve_within(&[], rest, depth),
            "self" => return self.resolve_within(at, rest, depth),
            "super" => return self.resolve_within(&at[..at.len().saturating_sub(1)], rest, depth),
            _ => {}
        }
        let mut inner = at.to_vec();
        inner.push(first.clone());
        if self.modules.contains_key(&inner) {
            return self.resolve_within(&inner, rest, depth);
        }
        let Some(module) = self.modules.get(at) else { return Meaning::Plain };
        if module.items.iter().any(|item| name_of(item).as_ref() == Some(first)) {
            return Meaning::Item((at.to_vec(), first.clone()));
        }
        if let Some(found) = module.uses.iter().find(|it| it.name == *first) {
            if found.path.first() == Some(first) && found.path.len() == 1 {
                return Meaning::Foreign(path.to_vec());
            }
            return match self.resolve_within(at, &found.path, depth - 1) {
                Meaning::Foreign(mut path) => {
                    path.extend_from_slice(rest);
                    Meaning::Foreign(path)
                }
                Meaning::Plain => Meaning::Foreign([&found.path, rest].concat()),
                Meaning::Module(inner) => self.resolve_within(&inner, rest, depth - 1),
                item @ Meaning::Item(_) => item,
            };
        }
        if path.len() > 1 && first.starts_with(char::is_lowercase) {
            return Meaning::Foreign(path.to_vec());
        }
        Meaning::Plain
    }
}

fn parse(path: &Path) -> syn::File {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn leaves(tree: &UseTree, mut before: Vec<String>, leaf: &mut dyn FnMut(Vec<String>, String)) {
    match tree {
        UseTree::Path(it) => {
            before.push(it.ident.to_string());
            leaves(&it.tree, before, leaf);
        }
        UseTree::Name(it) if it.ident == "self" => {
            let name = before.last().cloned().unwrap_or_default();
            leaf(before, name);
        }
        UseTree::Name(it) => {
            before.push(it.ident.to_string());
            leaf(before, it.ident.to_string());
        }
        UseTree::Rename(it) => {
            before.push(it.ident.to_string());
            leaf(before, it.rename.to_string());
        }
        UseTree::Glob(_) => leaf(before, "*".to_owned()),
        UseTree::Group(it) => it.items.iter().for_each(|tree| leaves(tree, before.clone(), leaf)),
    }
}

pub(crate) fn name_of(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(it) => it.ident.to_string(),
        Item::Enum(it) => it.ident.to_string(),
        Item::Fn(it) => it.sig.ident.to_string(),
        Item::Macro(it) => it.ident.as_ref()?.to_string(),
        Item::Static(it) => it.ident.to_string(),
        Item::Struct(it) => it.ident.to_string(),
        Item::Trait(it) => it.ident.to_string(),
        Item::Type(it) => it.ident.to_string(),
        _ => return None,
    })
}

pub(crate) const fn is_public_vis(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

/// Whether it is compiled for tests only.
pub(crate) fn is_for_tests(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        let said = attr.meta.path().is_ident("cfg").then(|| attr.meta.require_list().ok()).flatten();
        said.is_some_and(|list| matches!(list.tokens.to_string().as_str(), "test" | "doctest"))
    })
}

pub(crate) fn is_hidden(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| attr.path().is_ident("doc") && attr.to_token_stream().to_string().contains("hidden"))
}

/// The conditions under which it is there, as text: `feature = "serde"`.
pub(crate) fn features(attrs: &[Attribute]) -> String {
    let conditions = attrs.iter().filter(|attr| attr.meta.path().is_ident("cfg")).filter_map(|attr| {
        let list = attr.meta.require_list().ok()?;
        Some(list.tokens.to_string())
    });
    conditions.collect::<Vec<_>>().join(", ")
}
