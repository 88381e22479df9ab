//! The customers that have unsent or held records, where the configuration lets the page name them.

use maud::{Markup, html};

use super::{
    super::{
        format::grouped,
        snapshot::{CustomerLine, Customers},
    },
    table,
};

const HEADINGS: [&str; 4] = ["Customer", "Product", "Unsent", "Held"];

pub(super) fn customers(customers: Option<&Customers>) -> Markup {
    let Some(Customers { lines, are_more }) = customers.filter(|customers| !customers.lines.is_empty())
    else {
        return Markup::default();
    };
    let rows = html! { @for line in lines { (row(line)) } };
    html! {
        h2 { "Customers with unsent or held records" }
        (table("Customers", "Records that AWS does not have", &HEADINGS, &rows))
        @if *are_more { p.aside { "There are more." } }
    }
}

fn row(line: &CustomerLine) -> Markup {
    html! {
        tr {
            th scope="row" { (line.customer) }
            td.text { (line.product) }
            td { (grouped(line.unsent)) }
            td { (grouped(line.held)) }
        }
    }
}
