//! Columns for a terminal: as wide as their widest cell, two spaces apart.

/// Header and rows as text that ends in a line break; only a sentence if there are no rows.
pub fn render<const N: usize>(header: [&str; N], rows: &[[String; N]], nothing: &str) -> String {
    if rows.is_empty() {
        return format!("{nothing}\n");
    }
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let header = header.map(str::to_owned);
    let mut text = String::new();
    for row in std::iter::once(&header).chain(rows) {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn columns_line_up_and_nothing_is_said_in_words() {
        let rows = [["eu".to_owned(), "live".to_owned()], ["ap-south".to_owned(), String::new()]];
        assert_eq!(render(["ID", "STATE"], &rows, ""), "ID        STATE\neu        live\nap-south\n");
        assert_eq!(render(["ID"], &[], "No clusters"), "No clusters\n");
    }
}
