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
