//! How much a parser makes of a text: found out by parsing it into nothing.
//!
//! HTML's rules make much of little. A paragraph that begins while formatting is open repeats all of it, with
//! every attribute (the reconstruction of the active formatting elements), so that a few kilobytes become
//! gigabytes of tree. The text goes through the same parser as later, in small pieces, into a tree that
//! forgets all but what the parser itself holds on to, and the first piece after a bound ends it.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;

use html5ever::interface::{ElementFlags, ExpandedName, NodeOrText, QuirksMode, TreeSink};
use html5ever::tendril::{StrTendril, TendrilSink as _};
use html5ever::{Attribute, ParseOpts, QualName, local_name, ns, parse_fragment};

/// Elements, comments and attributes that a text may become: as many as half of its bytes at most.
const PARTS_MAX: usize = 32 * 1024;
/// Bytes in all of their attributes.
const ATTRIBUTE_BYTES_MAX: usize = 256 * 1024;
/// Elements that may be open or waiting to be repeated at a time.
const OPEN_MAX: usize = 256;
/// Bytes that are parsed before the bounds are looked at.
const PIECE: usize = 256;

/// Whether a text becomes a tree of bounded size and depth.
pub(super) fn is_bounded(text: &str) -> bool {
    let tally = Rc::new(Tally::default());
    let sink = Forgetful { document: Node::new(&tally, nameless(), false), tally: Rc::clone(&tally) };
    // What the sanitiser parses with, exactly.
    let context = QualName::new(None, ns!(html), local_name!("div"));
    let mut parser = parse_fragment(sink, ParseOpts::default(), context, Vec::new(), false);
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
        parser.process(StrTendril::from(piece));
        if tally.is_over() {
            return false;
        }
        rest = after;
    }
    parser.finish();
    !tally.is_over()
}

fn nameless() -> QualName {
    QualName::new(None, ns!(), local_name!(""))
}

#[derive(Default)]
struct Tally {
    parts: Cell<usize>,
    attribute_bytes: Cell<usize>,
    open: Cell<usize>,
    most_open: Cell<usize>,
}

impl Tally {
    fn is_over(&self) -> bool {
        self.parts.get() > PARTS_MAX
            || self.attribute_bytes.get() > ATTRIBUTE_BYTES_MAX
            || self.most_open.get() > OPEN_MAX
    }

    fn add(&self, attributes: &[Attribute]) {
        self.parts.set(self.parts.get().saturating_add(1 + attributes.len()));
        let bytes = attributes.iter().map(|attribute| attribute.value.len()).sum();
        self.attribute_bytes.set(self.attribute_bytes.get().saturating_add(bytes));
    }
}

/// A node that knows its name and none of its relatives. It lives for as long as the parser may need it.
struct Node {
    name: QualName,
    holds_html: bool,
    tally: Rc<Tally>,
}

impl Node {
    fn new(tally: &Rc<Tally>, name: QualName, holds_html: bool) -> Rc<Self> {
        let open = tally.open.get().saturating_add(1);
        tally.open.set(open);
        tally.most_open.set(tally.most_open.get().max(open));
        Rc::new(Self { name, holds_html, tally: Rc::clone(tally) })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tally.open.set(self.tally.open.get().saturating_sub(1));
    }
}

/// Builds no tree. The parser asks it for names only, and keeps what is open itself.
struct Forgetful {
    document: Rc<Node>,
    tally: Rc<Tally>,
}

impl TreeSink for Forgetful {
    type Handle = Rc<Node>;
    type Output = ();
    type ElemName<'a> = ExpandedName<'a>;

    fn finish(self) {}

    fn parse_error(&self, _message: Cow<'static, str>) {}

    fn get_document(&self) -> Rc<Node> {
        Rc::clone(&self.document)
    }

    fn elem_name<'a>(&'a self, target: &'a Rc<Node>) -> ExpandedName<'a> {
        target.name.expanded()
    }

    fn create_element(&self, name: QualName, attributes: Vec<Attribute>, flags: ElementFlags) -> Rc<Node> {
        self.tally.add(&attributes);
        Node::new(&self.tally, name, flags.mathml_annotation_xml_integration_point)
    }

    fn create_comment(&self, _text: StrTendril) -> Rc<Node> {
        self.tally.add(&[]);
        Node::new(&self.tally, nameless(), false)
    }

    fn create_pi(&self, _target: StrTendril, _data: StrTendril) -> Rc<Node> {
        self.tally.add(&[]);
        Node::new(&self.tally, nameless(), false)
    }

    fn append(&self, _parent: &Rc<Node>, _child: NodeOrText<Rc<Node>>) {}

    fn append_based_on_parent_node(
        &self,
        _element: &Rc<Node>,
        _previous: &Rc<Node>,
        _child: NodeOrText<Rc<Node>>,
    ) {
    }

    fn append_doctype_to_document(&self, _name: StrTendril, _public: StrTendril, _system: StrTendril) {}

    fn get_template_contents(&self, _target: &Rc<Node>) -> Rc<Node> {
        Node::new(&self.tally, nameless(), false)
    }

    fn same_node(&self, one: &Rc<Node>, other: &Rc<Node>) -> bool {
        Rc::ptr_eq(one, other)
    }

    fn set_quirks_mode(&self, _mode: QuirksMode) {}

    fn append_before_sibling(&self, _sibling: &Rc<Node>, _node: NodeOrText<Rc<Node>>) {}

    fn add_attrs_if_missing(&self, _target: &Rc<Node>, attributes: Vec<Attribute>) {
        self.tally.add(&attributes);
    }

    fn remove_from_parent(&self, _target: &Rc<Node>) {}

    fn reparent_children(&self, _node: &Rc<Node>, _parent: &Rc<Node>) {}

    fn is_mathml_annotation_xml_integration_point(&self, node: &Rc<Node>) -> bool {
        node.holds_html
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_has_a_nearest_accepted_and_a_nearest_refused_text() {
        // The document, the root and the fragment's context are open from the start.
        let open = OPEN_MAX - 3;
        let nested = |count: usize| "<div>".repeat(count);
        let attributes = |count: usize| (0..count).map(|number| format!(" {number:x}")).collect::<String>();
        for (name, good, bad) in [
            ("depth", nested(open), nested(open + 1)),
            // Within one piece, so that nobody looks while it is deepest.
            (
                "depth that is left at once",
                format!("{:20}{}{}<br>", "x", nested(open), "</div>".repeat(10)),
                format!("{:20}{}{}<br>", "x", nested(open + 1), "</div>".repeat(10)),
            ),
            ("elements", "<br>".repeat(PARTS_MAX - 2), "<br>".repeat(PARTS_MAX + 1)),
            ("comments", "<!>".repeat(PARTS_MAX - 2), "<!>".repeat(PARTS_MAX + 1)),
            (
                "attributes",
                format!("<b{}>", attributes(PARTS_MAX - 3)),
                format!("<b{}>", attributes(PARTS_MAX + 1)),
            ),
            (
                "their bytes",
                format!("<a href={}>", "x".repeat(ATTRIBUTE_BYTES_MAX)),
                format!("<a href={}>", "x".repeat(ATTRIBUTE_BYTES_MAX + 1)),
            ),
        ] {
            assert!(is_bounded(&good), "{name}: the nearest accepted");
            assert!(!is_bounded(&bad), "{name}: the nearest refused");
        }
    }
}
