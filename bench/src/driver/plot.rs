//! The pictures of the page.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::measure::{Over, Results};
use super::stats::number;

const CASES: [&str; 6] = ["no-cookie", "untouched", "read-one", "write-one", "new", "login"];
const SHOWN: [(&str, RGBColor); 6] = [
    ("cloakroom", RGBColor(0x1f, 0x5f, 0xa8)),
    ("tower-sessions", RGBColor(0xd9, 0x7a, 0x1c)),
    ("axum_session", RGBColor(0x8a, 0x8a, 0x8a)),
    ("signed-cookie", RGBColor(0x6a, 0xa8, 0x4f)),
    ("private-cookie", RGBColor(0x3c, 0x74, 0x2b)),
    ("actix-session", RGBColor(0xa0, 0x5a, 0xa0)),
];

/// Draws instructions, time and allocations over the bare framework.
pub(super) fn in_process(folder: &Path, results: &Results) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let draw = |name: &str, title: &str, of: fn(&Over) -> f64| {
        bars(&folder.join(name), title, results, of).map_err(|error| anyhow!("{name}: {error}"))
    };
    draw(
        "instructions.svg",
        "Instructions added to a bare request (callgrind; SHA-256 counted in software)",
        |over| over.instructions,
    )?;
    draw("time.svg", "Nanoseconds added to a bare request (median)", |over| over.spread().median)?;
    draw("allocations.svg", "Allocations added to a bare request", |over| over.allocations)
}

const BAR: i32 = 14;
const LEFT: i32 = 120;
const WIDTH: i32 = 900;
const TOP: i32 = 70;

fn bars(
    path: &Path,
    title: &str,
    results: &Results,
    of: fn(&Over) -> f64,
) -> Result<(), Box<dyn std::error::Error>> {
    let group = BAR * SHOWN.len() as i32 + 16;
    let height = TOP + group * CASES.len() as i32 + 10;
    let root = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let text = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
    root.draw(&Text::new(title.to_owned(), (10, 10), text(17)))?;
    let mut x = 10;
    for (name, colour) in SHOWN {
        root.draw(&Rectangle::new([(x, 42), (x + 12, 54)], colour.filled()))?;
        root.draw(&Text::new(name, (x + 16, 41), text(13)))?;
        x += 40 + 8 * name.len() as i32;
    }
    let value = |variant: &str, case: &str| results.over(variant, case).map(of).unwrap_or_default().max(0.0);
    let all = CASES.iter().flat_map(|case| SHOWN.map(|(variant, _)| value(variant, case)));
    let most = all.fold(1.0, f64::max);
    let right = Pos::new(HPos::Right, VPos::Center);
    for (row, case) in CASES.iter().enumerate() {
        let y = TOP + group * row as i32;
        let middle = y + (group - 16) / 2;
        root.draw(&Text::new(*case, (LEFT - 10, middle), text(14).pos(right)))?;
        for (index, (variant, colour)) in SHOWN.into_iter().enumerate() {
            let (value, y) = (value(variant, case), y + BAR * index as i32);
            let end = LEFT + (value / most * f64::from(WIDTH - LEFT - 80)) as i32;
            root.draw(&Rectangle::new([(LEFT, y), (end, y + BAR - 3)], colour.filled()))?;
            root.draw(&Text::new(number(value), (end + 5, y - 1), text(12)))?;
        }
    }
    root.present()?;
    Ok(())
}

#[cfg(feature = "http")]
const STORES: [(&str, RGBColor); 4] = [
    ("memory", RGBColor(0x1f, 0x5f, 0xa8)),
    ("SQLite", RGBColor(0x6a, 0xa8, 0x4f)),
    ("PostgreSQL", RGBColor(0xa0, 0x5a, 0xa0)),
    ("Redis", RGBColor(0xd9, 0x7a, 0x1c)),
];

/// Draws what a read (line) and a write (line with dots) cost at each size: both axes by powers of ten.
#[cfg(feature = "http")]
pub(super) fn by_size(path: &Path, rows: &[super::scale::Row]) -> Result<()> {
    lines(path, rows).map_err(|error| anyhow!("{}: {error}", path.display()))
}

#[cfg(feature = "http")]
fn lines(path: &Path, rows: &[super::scale::Row]) -> Result<(), Box<dyn std::error::Error>> {
    const HEIGHT: i32 = 460;
    const BOTTOM: i32 = HEIGHT - 50;
    let root = SVGBackend::new(path, (WIDTH as u32, HEIGHT as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    let text = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
    let title = "Microseconds for one read (line) and one write (with dots), by the number of sessions";
    root.draw(&Text::new(title, (10, 10), text(17)))?;
    let right = LEFT - 30..WIDTH - 40;
    let x = |sessions: f64| {
        right.start + ((sessions.log10() - 3.0) / 4.0 * f64::from(right.end - right.start)) as i32
    };
    // From a tenth of a microsecond to a tenth of a second.
    let y = |micros: f64| BOTTOM - ((micros.max(0.1).log10() + 1.0) / 6.0 * f64::from(BOTTOM - TOP)) as i32;
    let grey = RGBColor(0xdd, 0xdd, 0xdd);
    for (power, label) in ["0.1", "1", "10", "100", "1,000", "10,000", "100,000"].into_iter().enumerate() {
        let y = y(10_f64.powi(power as i32 - 1));
        root.draw(&PathElement::new(vec![(right.start, y), (right.end, y)], grey))?;
        root.draw(&Text::new(
            label,
            (right.start - 8, y),
            text(12).pos(Pos::new(HPos::Right, VPos::Center)),
        ))?;
    }
    for power in 3..=7 {
        let x = x(10_f64.powi(power));
        root.draw(&PathElement::new(vec![(x, TOP), (x, BOTTOM)], grey))?;
        let label = number(10_f64.powi(power));
        root.draw(&Text::new(label, (x, BOTTOM + 10), text(12).pos(Pos::new(HPos::Center, VPos::Top))))?;
    }
    let mut key = 10;
    for (name, colour) in STORES {
        root.draw(&Rectangle::new([(key, 42), (key + 12, 54)], colour.filled()))?;
        root.draw(&Text::new(name, (key + 16, 41), text(13)))?;
        key += 40 + 8 * name.len() as i32;
        let of_store = rows.iter().filter(|row| row.store == name).collect::<Vec<_>>();
        let points = |of: fn(&super::scale::Row) -> f64| {
            of_store.iter().map(|row| (x(row.sessions as f64), y(of(row)))).collect::<Vec<_>>()
        };
        root.draw(&PathElement::new(points(|row| row.read.median), colour.stroke_width(2)))?;
        let writes = points(|row| row.write.median);
        root.draw(&PathElement::new(writes.clone(), colour.stroke_width(1)))?;
        for point in writes {
            root.draw(&Circle::new(point, 4, colour.filled()))?;
        }
    }
    root.present()?;
    Ok(())
}
