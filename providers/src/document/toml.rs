//! TOML as a tree.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::tree::{Data, Entry, Fields, Lines, Node, check_depth};
use super::{DocumentError, Place};

pub(super) fn parse(text: &str) -> Result<Node, DocumentError> {
    let lines = Lines::of(text);
    let table = DeTable::parse(text).map_err(|error| {
        let line = error.span().map_or(1, |span| lines.at(span.start));
        DocumentError::new(&Place::at(line), format!("this is no TOML: {}", error.message()))
    })?;
    // A table knows only the line of its header, and the first table has none.
    Ok(Node { line: 1, data: self::table(table.get_ref(), &Place::at(1), &lines, 1)? })
}

fn table(table: &DeTable<'_>, place: &Place, lines: &Lines, depth: usize) -> Result<Data, DocumentError> {
    check_depth(depth, place.line)?;
    let mut sorted: Vec<_> = table.iter().collect();
    sorted.sort_by_key(|(name, _)| name.span().start);
    let mut fields = Fields::default();
    for (name, value) in sorted {
        let line = lines.at(name.span().start);
        let name: &str = AsRef::<std::borrow::Cow<'_, str>>::as_ref(name);
        let value = node(value, &place.below(line, name), lines, depth)?;
        fields.push(place, Entry { name: name.into(), line, value })?;
    }
    Ok(fields.done())
}

fn node(value: &Spanned<DeValue<'_>>, place: &Place, lines: &Lines, depth: usize) -> Result<Node, DocumentError> {
    let line = lines.at(value.span().start);
    let data = match value.get_ref() {
        DeValue::String(text) => Data::Text((**text).into()),
        DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Data::Integer(number),
            Err(_) => return place.refuse("is a number beyond any that is read"),
        },
        DeValue::Float(number) => match number.as_str().parse() {
            Ok(number) if f64::is_finite(number) => Data::Float(number),
            _ => return place.refuse("is a number that is not finite"),
        },
        DeValue::Boolean(flag) => Data::Bool(*flag),
        DeValue::Datetime(_) => Data::Date,
        DeValue::Array(items) => {
            check_depth(depth + 1, line)?;
            let items = items.iter().enumerate();
            let item = |(index, item): (usize, &Spanned<DeValue<'_>>)| {
                node(item, &place.item(lines.at(item.span().start), index), lines, depth + 1)
            };
            Data::List(items.map(item).collect::<Result<_, _>>()?)
        }
        DeValue::Table(within) => table(within, place, lines, depth + 1)?,
    };
    Ok(Node { line, data })
}
